//! Members of a group come, crash, return with and without their disk, and leave in order.

use std::time::Duration;

use super::{HEALED, SOON, Town, eventually};

/// How long a node may take to end when it is asked to.
const ENDS: Duration = Duration::from_secs(8);

#[tokio::test]
async fn one_grows_to_three_by_hand_and_takes_back_who_crashed_or_lost_its_disk() {
    let mut town = Town::of(1, &[], &[]);
    town.create_within(0, "first", SOON).await;
    let first = town.stands(0, &[0], &[]).await;
    assert!(first["warning"].is_null(), "{first}");
    town.join("metadata");
    let two = town.stands(0, &[0], &[1]).await;
    let warning = two["warning"].as_str().unwrap();
    assert!(warning.contains("its loss stops writes"), "{warning}");
    assert!(town.status(1).await.contains(warning), "`status` does not warn");
    assert!(town.has(1, "first").await);
    town.join("metadata");
    let three = town.stands(2, &[0, 1, 2], &[]).await;
    assert!(three["warning"].is_null(), "{three}");
    assert_eq!(three["group"], first["group"]);

    town.all[2].node.kill();
    town.create_within(0, "meanwhile", HEALED).await;
    town.restart(2, false);
    assert!(town.has(2, "meanwhile").await);
    let back = town.stands(2, &[0, 1, 2], &[]).await;
    assert_eq!(town.replica_id(&back, 2), town.replica_id(&three, 2));

    town.restart(1, true);
    town.create_within(0, "after", HEALED).await;
    eventually(
        "another replica votes in the place of the one that lost its disk",
        SOON,
        async || {
            let now = town.stands(0, &[0, 1, 2], &[]).await;
            let new = town.replica_id(&now, 1) != town.replica_id(&three, 1);
            if new { Ok(()) } else { Err(now.to_string()) }
        },
    )
    .await;
    assert!(town.has(1, "first").await && town.has(1, "after").await);
    town.are_equal(2, 3).await;
}

#[tokio::test]
async fn who_is_asked_to_stop_leaves_first_and_the_service_goes_on() {
    let mut town = Town::of(3, &["--wanted", "metadata=3"], &[]);
    town.stands(0, &[0, 1, 2], &[]).await;
    let leader = town.leader(0).await;
    let [follower, other] = [(leader + 1) % 3, (leader + 2) % 3];
    town.terminate(&[follower], ENDS).await;
    town.create_within(leader, "without-a-follower", HEALED).await;
    town.stands(leader, &[leader], &[other]).await;
    town.restart(follower, false);
    town.stands(leader, &[0, 1, 2], &[]).await;

    town.terminate(&[leader], ENDS).await;
    town.create_within(other, "without-the-leader", HEALED).await;
    let next = town.leader(other).await;
    assert_ne!(next, leader);
    let learner = 3 - leader - next;
    town.stands(other, &[next], &[learner]).await;
    assert!(town.has(other, "without-a-follower").await);
    town.restart(leader, false);
    town.stands(other, &[0, 1, 2], &[]).await;
}

#[tokio::test]
async fn all_that_are_asked_to_stop_end_in_time_and_come_back_as_they_were() {
    let mut town = Town::of(3, &["--wanted", "metadata=3"], &[]);
    let before = town.stands(0, &[0, 1, 2], &[]).await;
    town.create_within(0, "kept", HEALED).await;
    town.terminate(&[0, 1, 2], ENDS).await;
    for n in 0..3 {
        town.restart(n, false);
    }
    let after = town.stands(0, &[0, 1, 2], &[]).await;
    assert_eq!(after["group"], before["group"]);
    for n in 0..3 {
        assert!(town.has(n, "kept").await);
        assert_eq!(town.replica_id(&after, n), town.replica_id(&before, n));
    }
}

#[tokio::test]
async fn the_place_of_one_that_stays_away_is_taken_by_a_learner() {
    let away = ("MOCKS3_CLUSTER__REMOVE_AFTER", "3s");
    let mut town = Town::of(3, &["--wanted", "metadata=3"], &[away]);
    town.stands(0, &[0, 1, 2], &[]).await;
    let learner = town.join("metadata");
    town.stands(0, &[0, 1, 2], &[learner]).await;
    let leader = town.leader(0).await;
    let [gone, other] = [(leader + 1) % 3, (leader + 2) % 3];
    town.all[gone].node.kill();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let group = town.group(leader).await;
    let voters = group["voters"].as_array().unwrap();
    assert!(voters.contains(&town.all[gone].instance.clone().into()), "too early: {group}");
    town.stands(leader, &[leader, other, learner], &[]).await;
    town.create_within(learner, "without-it", HEALED).await;
    town.restart(gone, false);
    town.stands(gone, &[leader, other, learner], &[gone]).await;
    assert!(town.has(gone, "without-it").await);
}
