//! What parallel loops cost. A measurement, not a check:
//! `cargo test --release -p burin-runtime --test pool -- --ignored --nocapture --test-threads 1`.

use burin_runtime::{Executor, Pool, Serial};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Nanoseconds of one run: the median and the 90th percentile.
fn time(runs: usize, mut f: impl FnMut()) -> (u128, u128) {
    (0..runs / 10).for_each(|_| f());
    let mut times: Vec<u128> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    (times[runs / 2], times[runs * 9 / 10])
}

/// Works for about so many nanoseconds of an idle processor.
fn work(rounds: usize) {
    (0..rounds).for_each(|i| {
        black_box(i);
    });
}

#[test]
#[ignore = "a measurement"]
fn the_cost_of_a_loop() {
    let pool = Pool::new(2).expect("threads");
    let show =
        |what: &str, (median, p90): (u128, u128)| println!("{what:<44} {median:>8} ns  p90 {p90:>8} ns");
    show("2 tasks that do nothing", time(10_000, || pool.parallel_for(2, &|_, _, _| ())));
    for rounds in [1_000, 10_000, 100_000] {
        show(&format!("{rounds} rounds, alone"), time(2000, || work(rounds)));
        let two = |begin, end, _| (begin..end).for_each(|_| work(rounds));
        show("  twice, by 2 workers", time(2000, || pool.parallel_for(2, &two)));
        let many = |begin, end, _| (begin..end).for_each(|_| work(rounds / 8));
        show("  twice in 16 tasks, by 2 workers", time(2000, || pool.parallel_for(16, &many)));
        let woken = |tasks: usize, task: &(dyn Fn(usize, usize, usize) + Sync)| {
            let mut times: Vec<u128> = (0..200)
                .map(|_| {
                    std::thread::sleep(Duration::from_micros(300));
                    let start = Instant::now();
                    pool.parallel_for(tasks, task);
                    start.elapsed().as_nanos()
                })
                .collect();
            times.sort_unstable();
            (times[100], times[180])
        };
        show("  twice, by 2 workers, one of them asleep", woken(2, &two));
        show("  twice in 16 tasks, one of them asleep", woken(16, &many));
    }
}

/// Two callers at once, each with loops of 2 workers or alone, on a machine with few CPUs.
#[test]
#[ignore = "a measurement"]
fn two_models_at_once() {
    let total = |first: &dyn Executor, second: &dyn Executor| {
        let start = Instant::now();
        std::thread::scope(|s| {
            for executor in [first, second] {
                s.spawn(move || {
                    for _ in 0..2000 {
                        executor.parallel_for(16, &|b, e, _| (b..e).for_each(|_| work(10_000)));
                        work(5_000);
                    }
                });
            }
        });
        start.elapsed()
    };
    let (a, b) = (Pool::new(2).expect("threads"), Pool::new(2).expect("threads"));
    for _ in 0..3 {
        println!("each alone      {:?}", total(&Serial, &Serial));
        println!("a shared pool   {:?}", total(&a, &a));
        println!("a pool for each {:?}", total(&a, &b));
    }
}
