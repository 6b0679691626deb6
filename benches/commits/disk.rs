//! What the disk allows: appends of 4 KiB, each followed by fdatasync, from several threads with a
//! file each.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many syncs a second.
pub fn syncs_per_second(dir: &Path, threads: usize, length: Duration) -> std::io::Result<f64> {
    let begun = Instant::now();
    let one = |n: usize| -> std::io::Result<u64> {
        let path = dir.join(format!("sync-{n}"));
        let mut file = File::create(&path)?;
        let (block, mut count) = ([7u8; 4096], 0);
        while begun.elapsed() < length {
            file.write_all(&block)?;
            file.sync_data()?;
            count += 1;
        }
        std::fs::remove_file(path)?;
        Ok(count)
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|n| scope.spawn(move || one(n))).collect();
        let mut sum = 0;
        for thread in all {
            sum += thread.join().expect("no panic in there")?;
        }
        Ok(sum as f64 / begun.elapsed().as_secs_f64())
    })
}
