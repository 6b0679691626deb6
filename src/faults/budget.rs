//! What a node may use: the smaller of what its cgroup and its affinity grant, or what its config says.
//! Percent of a fault are percent of this (UNIT-2).
//!
//! - `BUDGET-1` a limit of any group above the own one counts, too: the smallest is taken;
//! - `BUDGET-2` no limit is the whole machine.
//!
//! Sources: cgroups(7), the kernel's cgroup-v2 and cgroup-v1 documents.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a node may use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// CPU cores.
    pub cpu_cores: f64,
    /// Bytes.
    pub memory_bytes: f64,
}

impl Budget {
    /// Of this process, on this machine.
    ///
    /// # Errors
    /// What could not be read.
    pub fn detect() -> std::io::Result<Budget> {
        let cores = std::thread::available_parallelism()?.get() as f64; // affinity, and v2 quotas
        let read = |path: &str| std::fs::read_to_string(path);
        let total = mem_total(&read("/proc/meminfo")?).unwrap_or(f64::MAX);
        let groups = Groups::of(&read("/proc/self/cgroup")?, Path::new("/sys/fs/cgroup"));
        Ok(Budget {
            cpu_cores: groups.cpu_cores().map_or(cores, |quota| quota.min(cores)),
            memory_bytes: groups.memory_bytes().map_or(total, |limit| limit.min(total)),
        })
    }
}

/// MemTotal in bytes.
fn mem_total(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// The control groups of a process: folders, the own one first, up to the root.
struct Groups {
    unified: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

impl Groups {
    /// From the text of `/proc/PID/cgroup`, where cgroups are mounted below `root`.
    fn of(text: &str, root: &Path) -> Groups {
        let mut groups = Groups { unified: Vec::new(), cpu: Vec::new(), memory: Vec::new() };
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if number == "0" && controllers.is_empty() {
                // the only hierarchy, or beside those of version 1
                for mount in [root.to_owned(), root.join("unified")] {
                    groups.unified.extend(chain(&mount, path));
                }
                continue;
            }
            let has = |name: &str| controllers.split(',').any(|c| c == name);
            if has("cpu") {
                groups.cpu = chain(&root.join(controllers), path);
                groups.cpu.extend(chain(&root.join("cpu"), path));
            }
            if has("memory") {
                groups.memory = chain(&root.join(controllers), path);
            }
        }
        groups
    }

    /// The smallest quota, in cores.
    fn cpu_cores(&self) -> Option<f64> {
        let unified = self.unified.iter().filter_map(|folder| {
            let text = read(folder, "cpu.max")?;
            let (quota, period) = text.split_once(' ')?;
            ratio(quota, period)
        });
        let v1 = self.cpu.iter().filter_map(|folder| {
            ratio(&read(folder, "cpu.cfs_quota_us")?, &read(folder, "cpu.cfs_period_us")?)
        });
        unified.chain(v1).min_by(f64::total_cmp)
    }

    /// The smallest limit, in bytes.
    fn memory_bytes(&self) -> Option<f64> {
        let limits = |folders: &[PathBuf], file: &'static str| -> Vec<f64> {
            let limit = |folder: &PathBuf| read(folder, file)?.parse::<f64>().ok();
            folders.iter().filter_map(limit).collect()
        };
        let unified = limits(&self.unified, "memory.max");
        let v1 = limits(&self.memory, "memory.limit_in_bytes");
        unified.into_iter().chain(v1).min_by(f64::total_cmp)
    }
}

/// A group's folder and those above it (BUDGET-1). In a container the path may be one of the host that
/// is not there: then the mount itself is the own group.
fn chain(mount: &Path, path: &str) -> Vec<PathBuf> {
    let own = mount.join(path.trim_start_matches('/'));
    own.ancestors().take_while(|folder| folder.starts_with(mount)).map(Path::to_owned).collect()
}

fn read(folder: &Path, file: &str) -> Option<String> {
    Some(std::fs::read_to_string(folder.join(file)).ok()?.trim().to_owned())
}

/// None where there is no quota: `max`, or -1.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files below a folder.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        }
        root
    }

    #[test]
    fn of_version_2_the_smallest_limit_on_the_way_up_counts() {
        let root = tree(&[
            ("a/b/cpu.max", "max 100000"),
            ("a/cpu.max", "150000 100000"),
            ("a/b/memory.max", "1048576"),
            ("a/memory.max", "max"),
        ]);
        let groups = Groups::of("0::/a/b\n", root.path());
        assert_eq!(groups.cpu_cores(), Some(1.5));
        assert_eq!(groups.memory_bytes(), Some(1_048_576.0));
    }

    #[test]
    fn version_1_has_its_own_files_and_minus_one_is_no_quota() {
        let root = tree(&[
            ("cpu,cpuacct/x/cpu.cfs_quota_us", "-1"),
            ("cpu,cpuacct/x/cpu.cfs_period_us", "100000"),
            ("cpu,cpuacct/cpu.cfs_quota_us", "25000"),
            ("cpu,cpuacct/cpu.cfs_period_us", "100000"),
            ("memory/x/memory.limit_in_bytes", "9223372036854771712"),
            ("memory/memory.limit_in_bytes", "4096"),
        ]);
        let text = "4:memory:/x\n3:cpu,cpuacct:/x\n1:name=systemd:/x\n0::/x\n";
        let groups = Groups::of(text, root.path());
        assert_eq!(groups.cpu_cores(), Some(0.25));
        assert_eq!(groups.memory_bytes(), Some(4096.0));
    }

    #[test]
    fn a_path_that_is_not_there_leaves_what_the_mount_itself_says() {
        let root = tree(&[("cpu.max", "50000 100000")]);
        let groups = Groups::of("0::/docker/0123\ngarbage\n", root.path());
        assert_eq!(groups.cpu_cores(), Some(0.5));
        assert_eq!(groups.memory_bytes(), None);
    }

    #[test]
    fn this_process_has_a_budget() {
        let budget = Budget::detect().unwrap();
        let most = std::thread::available_parallelism().unwrap().get() as f64;
        assert!(budget.cpu_cores > 0.0 && budget.cpu_cores <= most, "{budget:?}");
        assert!(budget.memory_bytes > 1e6 && budget.memory_bytes < 1e15, "{budget:?}");
        assert_eq!(mem_total("MemFree: 1 kB\nMemTotal:   2 kB\n"), Some(2048.0));
    }
}
