//! One lane at work: its namespaces, capture and probe, and one case after another on them.
//!
//! Nothing is waited for by the clock. Before the first case a beacon is repeated until the probe
//! reports it; after each case one beacon closes both the capture's view and the probe's, so that
//! what was not reported by then was not reported at all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gauntlet_wire::class::Class;
use tempfile::TempDir;

use super::artifacts::{self, ArtifactError};
use super::kernel_log::KernelLog;
use super::{LaneEnd, Settings, lacks, report_of, skipped, standstill};
use crate::lab::{Impaired, Lane, Role, SERVER_INTERFACE};
use crate::patience::limit;
use crate::peer::{self, Beacons, Endpoints, Match};
use crate::probe::{Beacon, Event, HELD, Probe, stall_after};
use crate::report::{CaseReport, Witnesses};
use crate::scenario::model::Family;
use crate::scenario::{Beside, Case};
use crate::verdict::{self, Judgement, Observation, Verdict};
use crate::witness::{Capture, Captured, Transcript};

/// How long a probe may take to load, attach and report its first beacon.
const READY: Duration = Duration::from_secs(30);
/// How long each try at that waits before the beacon is repeated.
const RETRY: Duration = Duration::from_millis(250);
/// How long a ready probe may take to report a beacon.
const SEEN: Duration = Duration::from_secs(5);
/// The port of beacons, below those of cases.
pub const BEACON_PORT: u16 = 9_999;
/// Ports of cases: above the beacons', below those that clients get.
const FIRST_PORT: u16 = 10_000;
const PORTS: u64 = 20_000;
/// How many rigs a lane may lose to the machine: then it is no accident, and the rest is told at once.
const SPARE: usize = 3;

/// A lane that runs cases.
#[derive(Debug)]
pub struct Worker {
    index: usize,
    /// By what its probe has beside the wire. Each is built when the first case needs it.
    rigs: BTreeMap<Beside, Result<Rig, String>>,
    /// The next case's port, counted from [`FIRST_PORT`].
    next_port: u64,
    /// How many cases were run.
    ran: u64,
    /// The probe may yet say something, by time alone, of the last of them.
    open: bool,
    /// Rigs that were replaced.
    replaced: usize,
    /// What was lost, late or wrong so far.
    end: LaneEnd,
}

/// What must stand for a case to run.
#[derive(Debug)]
struct Rig {
    // Dropped in this order: whoever looks at the lane goes before it.
    probe: Probe,
    beside: Beside,
    capture: Capture,
    beacons: Beacons,
    lane: Arc<Lane>,
    /// How many beacons there were.
    lit: u64,
    /// Where the file is that both ends write their secrets to, and the probe reads.
    key_log: Option<TempDir>,
    /// Why nothing later can be said: the probe failed, or a case was not closed.
    deaf: Option<String>,
    /// It is the latter: no fault of the probe's, but what the case left behind would be taken for the next one's.
    unclosed: bool,
}

/// All that a case left behind.
struct Run {
    port: u16,
    endpoints: Endpoints,
    wire: Result<Transcript, String>,
    packets: Captured,
    reported: Result<Vec<Event>, String>,
}

impl Worker {
    /// A lane to be; nothing is built yet.
    #[must_use]
    pub fn new(index: usize, settings: &Settings) -> Self {
        Self {
            index,
            rigs: BTreeMap::new(),
            // Each seed begins elsewhere, and no port repeats within a lane.
            next_port: settings.seed % PORTS,
            ran: 0,
            open: false,
            replaced: 0,
            end: LaneEnd::default(),
        }
    }

    /// Builds what a case needs and starts its probe, unless that stands already. What fails here is the
    /// reason of every such case's `infra`.
    fn rig(&mut self, beside: Beside, settings: &Settings) -> &mut Result<Rig, String> {
        self.rigs.entry(beside).or_insert_with(|| {
            let mut rig = Rig::new(self.index, settings, beside)?;
            rig.deaf = rig.ready().err();
            Ok(rig)
        })
    }

    /// Runs a case to its verdict.
    ///
    /// What is red because the machine was not there is run once more, and both attempts are told: a case
    /// during which it stood still, and one that hangs, since to a deadline that looks the same. So is one
    /// whose bad cable lost so much that a stall was rightly reported. What is red twice is red.
    #[must_use]
    pub fn run(&mut self, case: &Case, settings: &Settings) -> CaseReport {
        standstill::watch();
        let began = Instant::now();
        let (first, slow) = self.attempt(case, settings);
        let stood = standstill::since(began);
        let red = !first.verdict.is_green() && first.verdict != Verdict::Skip;
        let excused = stood.is_some() || slow.is_some() || first.verdict == Verdict::Hang;
        if !red || !excused {
            return first;
        }
        let mut why = first.reason.unwrap_or_default();
        if let Some(stood) = stood {
            let _ = write!(
                why,
                "; the machine stood still for {:.1} s",
                stood.as_secs_f64()
            );
        }
        if let Some(slow) = slow {
            let _ = write!(
                why,
                "; on its bad cable it took {:.1} s, and the probe calls {:.1} s of silence a stall",
                slow.as_secs_f64(),
                stall_after().as_secs_f64()
            );
        }
        let (again, _) = self.attempt(case, settings);
        CaseReport {
            first_attempt: Some(why),
            artifacts: again.artifacts.or(first.artifacts),
            ..again
        }
    }

    /// Runs it once; also says how long it took, where a bad cable made it so slow that a stall was reported.
    fn attempt(&mut self, case: &Case, settings: &Settings) -> (CaseReport, Option<Duration>) {
        if let Some(lacking) = lacks(case) {
            return (skipped(case, settings, lacking), None);
        }
        let log = KernelLog::now();
        let began = Instant::now();
        let port = FIRST_PORT + (self.next_port % PORTS) as u16;
        self.next_port += 1;
        self.ran += 1;
        self.open = may_be_told_late(case);
        let run = match self.rig(case.beside, settings) {
            Ok(rig) => rig.run(case, port, settings),
            Err(why) => Err(why.clone()),
        };
        let duration = began.elapsed();
        self.replace_unclosed(case.beside, port);
        let judgement = match &run {
            Ok(run) => run.judge(case),
            Err(why) => Judgement {
                verdict: Verdict::Infra,
                reason: Some(why.clone()),
            },
        };
        let judgement = judgement.knowing(settings.deviations.reason(&case.id));
        let mut report = CaseReport {
            verdict: judgement.verdict,
            reason: judgement.reason,
            duration_ms: duration.as_millis().try_into().unwrap_or(u64::MAX),
            ..report_of(case, settings)
        };
        let Ok(run) = run else {
            return (report, None);
        };
        let slow = run.slow(case);
        report.witnesses = run.witnesses();
        if settings.keep_all || !report.verdict.is_green() {
            match run.keep(&report, settings, log) {
                Ok(folder) => report.artifacts = Some(folder),
                Err(error) => self.end.errors.push(error.to_string()),
            }
        }
        report.reported = run.reported.unwrap_or_default();
        (report, slow)
    }

    /// Ends a rig on which the case of `port` was not closed: the next such case has a new one.
    fn replace_unclosed(&mut self, beside: Beside, port: u16) {
        let unclosed = |rig: &Result<Rig, String>| rig.as_ref().is_ok_and(|rig| rig.unclosed);
        if self.replaced < SPARE
            && self.rigs.get(&beside).is_some_and(unclosed)
            && let Some(Ok(rig)) = self.rigs.remove(&beside)
        {
            self.replaced += 1;
            self.end.retire(rig, patient(), Some(port));
        }
    }

    /// Ends the probe, then the lane.
    #[must_use]
    pub fn finish(self) -> LaneEnd {
        let mut end = self.end;
        // The same time for all of them, as it begins for all of them now. None where a single case was run
        // whose failure was told already.
        let until = patient();
        let until = if self.ran > 1 || self.open {
            until
        } else {
            Instant::now()
        };
        for rig in self.rigs.into_values() {
            // A rig that never stood, or whose probe failed, was the reason of every case already.
            if let Ok(rig) = rig
                && rig.deaf.is_none()
            {
                end.retire(rig, until, None);
            }
        }
        end
    }

    /// What the probe reports while nothing is being done here.
    #[must_use]
    pub fn overhear(&mut self, patience: Duration) -> Vec<Event> {
        let rigs = self.rigs.values_mut().flatten();
        rigs.flat_map(|rig| rig.probe.linger(patience)).collect()
    }

    /// The lane of the cases run so far and the probe's process id, where they stand: for someone who wants
    /// to look.
    #[must_use]
    pub fn stand(&self) -> Option<(Arc<Lane>, Option<u32>)> {
        let rig = self.rigs.values().flatten().next()?;
        Some((Arc::clone(&rig.lane), rig.probe.pid()))
    }
}

/// The key log in its folder.
fn path_in(folder: &TempDir) -> PathBuf {
    folder.path().join("keys.log")
}

/// When a probe has said what it has to say by time alone.
fn patient() -> Instant {
    Instant::now() + stall_after() + stall_after() / 2
}

impl LaneEnd {
    /// Ends a rig, and adds what its probe counted.
    ///
    /// Before that the probe may say until `until` what it has to say by time alone: a stall found in a case
    /// that had none would come only now. `except`: the port of a case that was not closed.
    fn retire(&mut self, mut rig: Rig, until: Instant, except: Option<u16>) {
        // Before a probe that reads a key log there are only failures, and each was told.
        if rig.beside != Beside::KeyLog && rig.probe.sees_beacons() {
            let left = until.saturating_duration_since(Instant::now());
            let late = rig.probe.linger(left);
            let late = late
                .iter()
                .filter(|event| {
                    let port = event.port("server");
                    port != Some(BEACON_PORT) && (except.is_none() || port != except)
                })
                .map(|event| {
                    format!(
                        "the probe reported {} for port {} after the last case had ended",
                        event.class().unwrap_or("no class"),
                        event.port("server").unwrap_or_default()
                    )
                });
            self.late.extend(late);
        }
        match rig.probe.stop() {
            Ok(counters) => {
                self.late.extend(counters.miscounted());
                for (cause, count) in counters.lost {
                    *self.lost.entry(cause).or_default() += count;
                }
            }
            Err(error) => self.errors.push(error.to_string()),
        }
    }
}

impl Rig {
    fn new(index: usize, settings: &Settings, beside: Beside) -> Result<Self, String> {
        let lane = Arc::new(Lane::new(index).map_err(|error| error.to_string())?);
        let capture =
            Capture::start(lane.server(), SERVER_INTERFACE).map_err(|error| error.to_string())?;
        let key_log = (beside == Beside::KeyLog)
            .then(|| {
                tempfile::Builder::new()
                    .prefix("gauntlet-key-log-")
                    .tempdir()
            })
            .transpose()
            .map_err(|error| format!("no place for a key log: {error}"))?;
        let path = key_log.as_ref().map(path_in);
        let probe = Probe::start(
            &settings.program,
            lane.server(),
            SERVER_INTERFACE,
            beside,
            path.as_deref(),
        )
        .map_err(|error| error.to_string())?;
        Ok(Self {
            beacons: Beacons::new(Arc::clone(&lane), BEACON_PORT),
            lane,
            lit: 0,
            capture,
            probe,
            beside,
            key_log,
            deaf: None,
            unclosed: false,
        })
    }

    /// Repeats a beacon until the probe reports one.
    fn ready(&mut self) -> Result<(), String> {
        if !self.probe.sees_beacons() {
            return Ok(());
        }
        let began = Instant::now();
        let mut sent = Vec::new();
        loop {
            sent.push(self.beacon(Family::Ipv4)?);
            match self.probe.until(&sent, RETRY) {
                Ok(_) => return Ok(()),
                Err(error) if error.is_silence() && began.elapsed() < limit(READY) => {}
                Err(error) if error.is_silence() => {
                    return Err(format!("{error}, not once in {}s", limit(READY).as_secs()));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn beacon(&mut self, family: Family) -> Result<Beacon, String> {
        self.lit += 1;
        let name = format!("beacon-{}.gauntlet", self.lit);
        match self.beacons.light(family, &name) {
            Ok(client) => Ok(Beacon {
                client,
                port: BEACON_PORT,
            }),
            Err(error) => {
                // Whatever it was to close stays open.
                self.unclosed = true;
                Err(format!("the beacon could not be made: {error}"))
            }
        }
    }

    fn run(&mut self, case: &Case, port: u16, settings: &Settings) -> Result<Run, String> {
        if let Some(why) = &self.deaf {
            return Err(why.clone());
        }
        let lane = Arc::clone(&self.lane);
        let impaired = match case.network.map(|network| lane.impair(network)) {
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(impaired)) => Some(impaired),
            None => None,
        };
        let driven = peer::drive(&Match {
            scenario: &case.scenario,
            tls: case.tls,
            family: case.family,
            lane: &self.lane,
            port,
            seed: settings.seed,
            deadline: limit(settings.deadline),
            key_log: self.key_log.as_ref().map(path_in).as_deref(),
        });
        // Closed even if an end could not be played: what it sent is nothing of the next case.
        let (after, packets) = match self.close(case.family, impaired) {
            Ok(closed) => closed,
            Err(why) => {
                let why = match driven {
                    Ok(_) => why,
                    Err(first) => format!("{first}; then {why}"),
                };
                self.unclosed = true;
                self.deaf = Some(why.clone());
                return Err(why);
            }
        };
        let told = self.told_until(after, case.family).inspect_err(|why| {
            self.deaf = Some(why.clone());
        });
        let endpoints = driven.map_err(|error| error.to_string())?;
        let wire = Transcript::read(&packets, &endpoints.flows, port);
        let reported = told.map(|events| self.belonging(events, &endpoints, port));
        Ok(Run {
            port,
            endpoints,
            wire,
            packets,
            reported,
        })
    }

    /// Makes a beacon; also all that the capture had before it.
    fn close(
        &mut self,
        family: Family,
        impaired: Option<Impaired<'_>>,
    ) -> Result<(Beacon, Captured), String> {
        // The beacon goes over a good cable; what the case still had to send is sent again over it too.
        if let Some(impaired) = impaired {
            impaired.lift().map_err(|error| error.to_string())?;
        }
        let after = self.beacon(family)?;
        let packets = self
            .capture
            .until(after.client, after.port)
            .map_err(|error| error.to_string())?;
        Ok((after, packets))
    }

    /// What the probe said, up to a beacon. One that hears libraries may hold back a failure that it saw
    /// before the beacon, for [`HELD`] and no longer: then a beacon that is made after that comes last.
    fn told_until(&mut self, beacon: Beacon, family: Family) -> Result<Vec<Event>, String> {
        let until = |probe: &mut Probe, beacon| {
            let told = probe.until(&[beacon], limit(SEEN));
            told.map_err(|error| error.to_string())
        };
        let mut events = until(&mut self.probe, beacon)?;
        if self.beside.hears_libraries() && self.probe.sees_beacons() {
            events.extend(self.probe.linger(HELD));
            let last = self.beacon(family)?;
            events.extend(until(&mut self.probe, last)?);
        }
        Ok(events)
    }

    /// Everything reported but beacons; or what a probe that does not look makes up.
    fn belonging(&self, events: Vec<Event>, endpoints: &Endpoints, port: u16) -> Vec<Event> {
        let address = |client: &SocketAddr| {
            let server = self.lane.address(Role::Server, family(client));
            (*client, SocketAddr::new(server, port))
        };
        let connections: Vec<_> = endpoints.flows.iter().map(address).collect();
        events
            .into_iter()
            // A beacon that was repeated before the probe was ready may be reported late.
            .filter(|event| event.port("server") != Some(BEACON_PORT))
            .chain(self.probe.invent(&connections))
            .collect()
    }
}

fn family(address: &SocketAddr) -> Family {
    if address.is_ipv4() {
        Family::Ipv4
    } else {
        Family::Ipv6
    }
}

/// Whether the probe may have something left to say of a case when it has ended: where it has to be
/// silent, and where it goes by the clock.
fn may_be_told_late(case: &Case) -> bool {
    case.scenario
        .expect
        .as_ref()
        .is_none_or(|expect| expect.class == Class::WantRead.name())
}

/// Whether a stall was reported, and packets took long enough for one.
fn explains_stall(told: &[Event], took: Duration) -> bool {
    let stall = |event: &Event| event.class() == Some(Class::WantRead.name());
    took >= stall_after() && told.iter().any(stall)
}

impl Run {
    fn judge(&self, case: &Case) -> Judgement {
        let text = String::as_str;
        verdict::judge(
            case,
            &Observation {
                hung: self.endpoints.hung,
                client: &self.endpoints.client.text,
                server: &self.endpoints.server.text,
                wire: self.wire.as_ref().map_err(text),
                reported: self.reported.as_deref().map_err(text),
                port: self.port,
            },
        )
    }

    /// How long it took, where that is a bad cable's doing and explains a stall that was reported.
    fn slow(&self, case: &Case) -> Option<Duration> {
        case.network?;
        let told = self.reported.as_deref().unwrap_or_default();
        Some(self.packets.lasted(self.port)).filter(|&took| explains_stall(told, took))
    }

    fn witnesses(&self) -> Witnesses {
        Witnesses {
            client: self.endpoints.client.text.clone(),
            server: self.endpoints.server.text.clone(),
            wire: match &self.wire {
                Ok(wire) => wire.lines.join("; "),
                Err(why) => why.clone(),
            },
        }
    }

    /// Writes the case's folder.
    fn keep(
        &self,
        report: &CaseReport,
        settings: &Settings,
        log: KernelLog,
    ) -> Result<PathBuf, ArtifactError> {
        let folder = settings.shelf.folder(&report.id)?;
        let ends = [
            ("client", &self.endpoints.client),
            ("server", &self.endpoints.server),
        ];
        let keys: Vec<&str> = ends
            .iter()
            .flat_map(|(_, end)| end.key_log.iter().map(String::as_str))
            .collect();
        for (name, end) in ends {
            let lines = end.log.join("\n");
            let text = format!("{lines}\noutcome: {}\n", end.text);
            artifacts::put(&folder, &format!("{name}.log"), &text)?;
        }
        artifacts::put(&folder, "keys.log", &(keys.join("\n") + "\n"))?;
        artifacts::put(
            &folder,
            "wire.txt",
            &(report.witnesses.wire.replace("; ", "\n") + "\n"),
        )?;
        artifacts::put(&folder, "events.ndjson", &self.events())?;
        artifacts::put(&folder, "kernel.log", &log.since())?;
        let reason = report.reason.as_deref().unwrap_or("as expected");
        let again = format!(
            "#!/bin/sh\n# {}: {}: {reason}\nexec {}\n",
            report.id,
            report.verdict.name(),
            report.repro
        );
        artifacts::put(&folder, "reproduce.sh", &again)?;
        let path = folder.join("capture.pcap");
        self.packets
            .of_port(self.port)
            .save(&path)
            .map_err(|source| artifacts::failed(path, source))?;
        Ok(folder)
    }

    fn events(&self) -> String {
        match &self.reported {
            Ok(events) => events
                .iter()
                .map(|event| serde_json::to_string(event).unwrap_or_default() + "\n")
                .collect(),
            Err(why) => format!("{why}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stall_is_explained_by_a_slow_cable_and_only_by_one_slow_enough() {
        let told = |class: &str| -> Event {
            serde_json::from_value(serde_json::json!({ "error.type": class })).unwrap()
        };
        let stall = [told("SSL_ERROR_SYSCALL"), told("SSL_ERROR_WANT_READ")];
        assert!(explains_stall(&stall, stall_after()));
        assert!(!explains_stall(
            &stall,
            stall_after() - Duration::from_nanos(1)
        ));
        assert!(!explains_stall(&stall[..1], stall_after() * 2));
        assert!(!explains_stall(&[], stall_after() * 2));
    }
}
