//! Faults that make the probe slow, each planted on purpose: the budgets must notice, by the very code that judges a
//! run, and must not mind without them.
//!
//! Needs root. Without, the trials are shown as ignored, with the reason, and the run fails when
//! `GAUNTLET_REQUIRE=bpf` says that this machine must be able to run them.

use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gauntlet_bench::budget::{self, Budget, Verdict};
use gauntlet_bench::compare::{self, Build, Change};
use gauntlet_bench::delivery::{self, Manner, Plan, Way, stops};
use gauntlet_bench::measurement::Measurement;
use gauntlet_bench::processor::{Class, run_on};
use gauntlet_bench::program;
use gauntlet_bench::quota::{PERIOD, Quota};
use gauntlet_bench::statistics::median;
use gauntlet_probes::load::Settings;
use gauntlet_probes::{object, privileges};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let mut trials = vec![
        Trial::test("a_table_is_asked_for_every_packet", || {
            let noticed = |glance| {
                let settings = Settings {
                    glance,
                    ..Settings::default()
                };
                let mut session = program::Session::new(object::OBJECT, &settings, 4);
                judged("program.bulk", &mut || session.measure(31))
            };
            same(noticed(true)?, Verdict::Met)?;
            same(noticed(false)?, Verdict::Missed)
        }),
        Trial::test("a_reader_is_woken_though_it_is_awake", || {
            let noticed = |manner| {
                let time = Duration::from_millis(60);
                by_reader("delivery.latency.made", manner, time)
            };
            same(noticed(Manner::Sound)?, Verdict::Met)?;
            same(noticed(Manner::Mute)?, Verdict::Missed)
        }),
        Trial::test("a_reader_looks_when_it_is_too_late", || {
            let noticed = |manner| by_reader("delivery.quiet.delivered", manner, Plan::QUICK.time);
            same(noticed(Manner::Sound)?, Verdict::Met)?;
            same(noticed(Manner::Late)?, Verdict::Missed)
        }),
        Trial::test("a_reader_is_slow_all_the_time_or_half_of_it", || {
            let (us, ms) = (Duration::from_micros, Duration::from_millis);
            for (of, manner) in [
                (
                    "delivery.latency.spin_echo",
                    Manner::Dozing(us(100), us(20)),
                ),
                (
                    "delivery.latency.spin_echo.p95",
                    Manner::Dozing(ms(10), ms(5)),
                ),
            ] {
                // Where a machine is too noisy to tell, that is no fault of the reader's.
                if by_reader(of, Manner::Sound, Plan::QUICK.time)? == Verdict::Missed {
                    return Err(format!("{of}: missed by a sound reader").into());
                }
                same(by_reader(of, manner, Plan::QUICK.time)?, Verdict::Missed)?;
            }
            Ok(())
        }),
        Trial::test(
            "a_processor_that_is_taken_away_is_seen_and_whose_it_is",
            || {
                let processors = [0, std::thread::available_parallelism()?.get() - 1];
                let [reader, producer] = processors;
                let mut seen = (0.0, 0.0);
                for _ in 0..3 {
                    let taken = |at| stopped_alone(processors, at);
                    seen = (taken(reader)?, taken(producer)?);
                    if seen.0 > 200.0 && seen.1 < 100.0 {
                        return Ok(());
                    }
                }
                Err(format!("{} us and {} us of a millisecond", seen.0, seen.1).into())
            },
        ),
        Trial::test(
            "a_build_that_asks_a_table_for_every_packet_is_worse",
            || {
                let sound = Settings::default();
                let asking = Settings {
                    glance: false,
                    ..Settings::default()
                };
                let changes = |today, then| {
                    let build = |settings| Build {
                        object: object::OBJECT,
                        settings,
                    };
                    let plan = compare::Plan {
                        loads: 5,
                        rounds: 3,
                    };
                    let timed = compare::timed(build(today), (build(then), "the same"), plan)?;
                    let bulk = timed
                        .iter()
                        .find(|one| one.measurement.name == "program.bulk");
                    anyhow::Ok(bulk.map(|one| one.change))
                };
                // Noise is no excuse for ever.
                let becomes = |today, then, meant| {
                    for _ in 0..3 {
                        match changes(today, then)? {
                            Some(change) if change == meant => return Ok(()),
                            Some(Change::Inconclusive) => {}
                            other => return Err(format!("{other:?}, {meant:?} was meant").into()),
                        }
                    }
                    Err(Failed::from(format!("cannot be told, {meant:?} was meant")))
                };
                becomes(&asking, &sound, Change::Worse)?;
                match changes(&sound, &sound)? {
                    Some(Change::Same | Change::Inconclusive) => Ok(()),
                    other => Err(format!("a build is {other:?} against itself").into()),
                }
            },
        ),
    ];
    trials.push(
        Trial::test("a_quota_holds_back_who_enters_and_is_gone_then", || {
            let quota = Quota::new(PERIOD / 5)?;
            let group = quota.group().to_owned();
            // Whoever does not enter is not held back.
            spun(None)?;
            let before = quota.throttled()?;
            let held = std::thread::scope(|scope| scope.spawn(|| spun(Some(&quota))).join())
                .map_err(|_| "the thread panicked")??;
            let throttled = quota.throttled()?;
            if before > 0 || throttled == 0 || held > 0.3 {
                let found =
                    format!("{held} of a processor, held back {before} and {throttled} times");
                return Err(found.into());
            }
            drop(quota);
            if group.exists() {
                return Err(format!("{} is left", group.display()).into());
            }
            Ok(())
        })
        .with_ignored_flag(Quota::new(PERIOD / 5).is_err()),
    );
    if let Err(missing) = privileges::check(true) {
        let required = std::env::var("GAUNTLET_REQUIRE").unwrap_or_default();
        if required.split(',').any(|name| name.trim() == "bpf") {
            eprintln!("GAUNTLET_REQUIRE names bpf, but the trials cannot run: {missing}");
            return ExitCode::FAILURE;
        }
        eprintln!("ignored: {missing}");
        trials = trials
            .into_iter()
            .map(|trial| trial.with_ignored_flag(true))
            .collect();
    }
    // What is timed has the machine for itself.
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What a budget of delivery says of such readers, each run so long.
fn by_reader(of: &str, manner: Manner, time: Duration) -> Result<Verdict, Failed> {
    let plan = Plan {
        rounds: 5,
        time,
        rates: &[Some(200_000)],
        ways: &[Way::Latency, Way::Quiet, Way::SpinEcho],
        // What is planted is larger than what a machine does.
        looks: false,
        ..Plan::QUICK
    };
    let mut session = delivery::Session::new(plan, manner)?;
    judged(of, &mut || session.measure())
}

/// How long the first of these is stopped alone, us in the median millisecond, while a thread that goes first takes half of
/// one of them, a bit at a time.
fn stopped_alone(processors: [usize; 2], taken: usize) -> Result<f64, Failed> {
    let (there, over) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            let there_by_now = run_on(taken, Class::highest());
            there.wait();
            while there_by_now.is_ok() && !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(300) {
                    std::hint::spin_loop();
                }
                std::thread::sleep(Duration::from_micros(300));
            }
            there_by_now
        });
        there.wait();
        let looks: anyhow::Result<Vec<f64>> = (0..9)
            .map(|_| stops::alone(processors, Class::Other))
            .collect();
        over.store(true, Ordering::Relaxed);
        taking.join().map_err(|_| "the thread panicked")??;
        Ok(median(&looks?))
    })
}

/// How much of a processor a thread gets that wants all of it, for half a second.
fn spun(quota: Option<&Quota>) -> Result<f64, Failed> {
    quota.map_or(Ok(()), Quota::enter)?;
    let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let (start, before) = (Instant::now(), used()?);
    while start.elapsed() < 5 * PERIOD {
        std::hint::spin_loop();
    }
    let used = used()?.saturating_sub(before);
    Ok(used.as_secs_f64() / start.elapsed().as_secs_f64())
}

/// What a budget of the repository says, measured on as a run would while it cannot tell.
fn judged(
    of: &str,
    measure: &mut dyn FnMut() -> anyhow::Result<Vec<Measurement>>,
) -> Result<Verdict, Failed> {
    let budgets = budget::parse(include_str!("../../budget.toml"))?;
    let budget: &Budget = budgets
        .iter()
        .find(|budget| budget.of == of)
        .ok_or("no budget of that name")?;
    for _ in 0..3 {
        let measured = measure()?;
        let found = measured.iter().find(|one| one.name == of);
        let verdict = budget.judge(found);
        if verdict != Verdict::Inconclusive {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Inconclusive)
}

fn same(is: Verdict, meant: Verdict) -> Result<(), Failed> {
    if is == meant {
        Ok(())
    } else {
        Err(format!("{}, where {} was meant", is.word(), meant.word()).into())
    }
}
