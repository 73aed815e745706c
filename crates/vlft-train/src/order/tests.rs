use super::*;

fn config(micro_batch: usize, accumulate: usize, epochs: u64) -> TrainConfig {
    TrainConfig {
        micro_batch,
        accumulate,
        epochs,
        ..TrainConfig::default()
    }
}

/// `n` samples of one token, one by one.
fn order(n: usize, seed: u64, shuffle: bool) -> Order {
    let train = TrainConfig {
        seed,
        ..TrainConfig::default()
    };
    let data = DataConfig {
        shuffle,
        ..DataConfig::new("")
    };
    Order::new(vec![1; n], &data, &train)
}

fn packed(lengths: &[usize], row_tokens: usize, seed: u64) -> Order {
    let train = TrainConfig {
        seed,
        ..TrainConfig::default()
    };
    let data = DataConfig {
        packing: true,
        pack_tokens: Some(row_tokens),
        ..DataConfig::new("")
    };
    Order::new(lengths.to_vec(), &data, &train)
}

fn by_length(lengths: &[usize], train: &TrainConfig, shuffle: bool) -> Order {
    let data = DataConfig {
        group_by_length: true,
        shuffle,
        ..DataConfig::new("")
    };
    Order::new(lengths.to_vec(), &data, train)
}

/// Lengths as different as those of documents, from a generator of their own.
fn lengths(n: u64, most: u64) -> Vec<usize> {
    let mixed = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) % most;
    (1..=n).map(|i| 1 + mixed(i) as usize).collect()
}

fn one(order: &mut Order, position: u64) -> usize {
    order.at(position)[0]
}

/// If this test fails, resumed runs of older versions see other samples: do not touch it.
#[test]
fn the_order_is_the_same_for_ever() {
    let mut by_one = order(10, 42, true);
    let epochs: Vec<Vec<usize>> = (0..3)
        .map(|epoch| (0..10).map(|i| one(&mut by_one, epoch * 10 + i)).collect())
        .collect();
    assert_eq!(
        epochs,
        [
            [5, 8, 9, 3, 4, 1, 6, 7, 0, 2],
            [2, 3, 5, 6, 1, 4, 9, 8, 7, 0],
            [1, 6, 8, 7, 9, 5, 3, 4, 0, 2]
        ]
    );
    let other_seed = one(&mut order(10, 43, true), 0);
    assert_ne!(other_seed, epochs[0][0]);

    let lengths = [9, 1, 4, 4, 7, 2, 8, 3, 5, 6];
    let mut rows = packed(&lengths, 12, 42);
    assert_eq!(
        (0..5).map(|row| rows.at(row)).collect::<Vec<_>>(),
        [vec![5, 8, 3, 1], vec![9, 7], vec![4, 2], vec![6], vec![0]]
    );
    let train = config(3, 1, 1);
    let mut batches = by_length(&lengths, &train, true);
    assert_eq!(
        (0..4).map(|batch| batches.at(batch)).collect::<Vec<_>>(),
        [vec![1, 5, 7], vec![3, 2, 8], vec![9, 4, 6], vec![0]]
    );
}

#[test]
fn every_epoch_sees_every_sample_once_and_any_position_may_be_asked_for() {
    let mut by_one = order(97, 7, true);
    let stream: Vec<usize> = (0..97 * 3).map(|p| one(&mut by_one, p)).collect();
    for epoch in stream.chunks(97) {
        let mut seen = epoch.to_vec();
        seen.sort();
        assert_eq!(seen, (0..97).collect::<Vec<_>>());
    }
    assert_ne!(stream[..97], stream[97..194]);
    for position in [200, 3, 100, 0, 290] {
        let expected = stream[position as usize];
        assert_eq!(one(&mut order(97, 7, true), position), expected);
        assert_eq!(one(&mut by_one, position), expected);
    }
}

/// The first place of a shuffled list of 4 should hold each sample about a quarter of the time.
#[test]
fn the_shuffle_is_fair() {
    let mut counts = [[0u32; 4]; 4];
    for seed in 0..4000 {
        let mut order = order(4, seed, true);
        for (place, count) in counts.iter_mut().enumerate() {
            count[one(&mut order, place as u64)] += 1;
        }
    }
    for count in counts.iter().flatten() {
        assert!((900..1100).contains(count), "{counts:?}");
    }
}

#[test]
fn micro_batches_cross_the_epoch_and_only_the_last_step_is_short() {
    let config = config(2, 2, 2);
    let mut order = order(7, 0, false);
    let steps: Vec<_> = (0..order.total_steps(&config))
        .map(|s| order.step(&config, s))
        .collect();
    assert_eq!(
        steps,
        [
            vec![vec![0, 1], vec![2, 3]],
            vec![vec![4, 5], vec![6, 0]],
            vec![vec![1, 2], vec![3, 4]],
            vec![vec![5, 6]],
        ]
    );
    let odd = self::config(2, 2, 1);
    assert_eq!(order.step(&odd, 1), [vec![4, 5], vec![6]]);
}

#[test]
fn with_max_steps_every_step_is_full() {
    let config = TrainConfig {
        max_steps: Some(3),
        ..config(2, 1, 1)
    };
    let mut order = order(3, 0, false);
    assert_eq!(order.total_steps(&config), 3);
    assert_eq!(order.step(&config, 1), [vec![2, 0]]);
    assert_eq!(order.step(&config, 2), [vec![1, 2]]);
}

#[test]
fn packed_rows_hold_every_sample_once_an_epoch_and_are_nearly_full() {
    let lengths = lengths(1000, 900);
    let (row_tokens, epochs) = (2048, 3);
    let config = config(2, 3, epochs);
    let mut order = packed(&lengths, row_tokens, 5);
    let steps = order.total_steps(&config);
    let all: Vec<Vec<Vec<usize>>> = (0..steps).map(|s| order.step(&config, s)).collect();

    // Micro-batches of two rows, three of them a step, only the last step may be short.
    assert!(all[..all.len() - 1].iter().all(|step| step.len() == 3));
    let stream: Vec<usize> = all.iter().flatten().flatten().copied().collect();
    assert_eq!(stream.len(), 3000);
    for epoch in stream.chunks(1000) {
        let mut seen = epoch.to_vec();
        seen.sort();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }
    assert_ne!(stream[..1000], stream[1000..2000]);

    let total: usize = lengths.iter().sum();
    let rows = order.start_of(1);
    for row in 0..rows {
        let tokens: usize = order.at(row).iter().map(|i| lengths[*i]).sum();
        assert!(tokens <= row_tokens);
    }
    let full = total as f64 / (rows as usize * row_tokens) as f64;
    assert!(full > 0.97, "{full}");

    // Resumed: a fresh order asked for a late step first.
    for step in [steps - 1, 0, steps / 2] {
        let mut fresh = packed(&lengths, row_tokens, 5);
        assert_eq!(fresh.step(&config, step), all[step as usize]);
    }
    let max_steps = TrainConfig {
        max_steps: Some(1_000),
        ..config
    };
    assert!(
        packed(&lengths, row_tokens, 5)
            .step(&max_steps, 999)
            .iter()
            .all(|micro_batch| !micro_batch.is_empty())
    );
}

#[test]
fn batches_of_similar_lengths_need_less_padding_and_lose_no_sample() {
    let lengths = lengths(1003, 900);
    let config = config(4, 2, 2);
    let padding = |batches: &[Vec<usize>]| -> usize {
        let of = |batch: &Vec<usize>| {
            let longest = batch.iter().map(|i| lengths[*i]).max().unwrap();
            batch.iter().map(|i| longest - lengths[*i]).sum::<usize>()
        };
        batches.iter().map(of).sum()
    };
    let plain = DataConfig::new("");
    let plain = Order::new(lengths.clone(), &plain, &config).first_epoch(&config);
    for shuffle in [true, false] {
        let mut order = by_length(&lengths, &config, shuffle);
        let grouped = order.first_epoch(&config);
        assert!(padding(&grouped) * 20 < padding(&plain));

        // 251 batches an epoch, the short one among them; 2 a step, two epochs.
        assert_eq!(order.total_steps(&config), 251);
        let all: Vec<Vec<usize>> = (0..251).flat_map(|s| order.step(&config, s)).collect();
        for epoch in all.chunks(251) {
            let mut seen: Vec<usize> = epoch.iter().flatten().copied().collect();
            seen.sort();
            assert_eq!(seen, (0..1003).collect::<Vec<_>>());
        }
        assert_eq!(all[..251] == all[251..], !shuffle);
        // Long and short batches come mixed.
        let first = |batch: &Vec<usize>| lengths[batch[0]];
        let rising = all[..63].windows(2).filter(|w| first(&w[0]) < first(&w[1]));
        assert!((16..48).contains(&rising.count()));
        let mut fresh = by_length(&lengths, &config, shuffle);
        assert_eq!(fresh.step(&config, 200), all[400..402]);
    }
}
