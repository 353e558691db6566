//! Two network namespaces with a way between them (a veth pair, or some, with routers in between), work that goes
//! along it, and an observer at the client's end: blocks of work with and without one.
//!
//! In quads, `without, with, with, without`: what drifts, drifts for both.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{MapData, PerCpuArray, ProgramArray};
use aya::programs::tc::{SchedClassifierLinkId, TcAttachType, qdisc_add_clsact};
use aya::programs::{Program, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use gauntlet_probes::load::{self, Settings};
use gauntlet_probes::netns::NetNs;
use gauntlet_probes::object;
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::frames::SYN;
use crate::packet_socket::tap;
use crate::processor::{Class, run_on};
use crate::progress;
use crate::stand::{classifier, one_of_each, opened};
use crate::work::{Ends, Work};

/// What is at the client's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observer {
    /// Nothing: the control.
    None,
    /// A program that does nothing, in both directions.
    Empty,
    /// The shipped program, in both directions.
    Probe,
    /// An AF_PACKET socket with a ring (TPACKET_V3) that nobody reads.
    Tap,
    /// The shipped command: the same program, and the process that reads what it tells.
    Watch,
    /// `tcpdump -U -w /dev/null`.
    Tcpdump,
    /// tshark, which prints ClientHellos and alerts.
    Tshark,
}

impl Observer {
    /// In the names of measurements.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Empty => "empty",
            Self::Probe => "probe",
            Self::Tap => "tap",
            Self::Watch => "watch",
            Self::Tcpdump => "tcpdump",
            Self::Tshark => "tshark",
        }
    }

    /// For people.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Empty => "an empty program",
            Self::Probe => "the probe",
            Self::Tap => "an AF_PACKET tap, unread",
            Self::Watch => "mtls-probe watch",
            Self::Tcpdump => "tcpdump",
            Self::Tshark => "tshark",
        }
    }

    /// How long it may take to end. tshark does not always, and leaves nothing attached when it is killed.
    const fn patience(self) -> Duration {
        match self {
            Self::Tshark => Duration::from_secs(1),
            _ => Duration::from_secs(20),
        }
    }

    /// Whether it is a process, which takes a while to start.
    pub(crate) const fn is_process(self) -> bool {
        matches!(self, Self::Watch | Self::Tcpdump | Self::Tshark)
    }
}

/// Some work, by part (a handshake, a MiB): microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// By the clock.
    pub(crate) time: f64,
    /// What both ends used of processors.
    pub(crate) processor: f64,
    /// What the observer's process used, if it is one.
    pub(crate) observer: f64,
}

/// Without, with, with, without.
pub(crate) type Quad = [Block; 4];

/// With, in times without.
pub(crate) fn ratio([before, with, also, after]: &Quad, value: fn(&Block) -> f64) -> f64 {
    (value(with) + value(also)) / (value(before) + value(after))
}

/// The client's interface.
const CLIENT: &str = "c0";

/// An interface on the way.
struct Hop {
    /// In which namespace, from the client's on.
    namespace: usize,
    interface: String,
}

/// Two namespaces, servers that run, and the observers.
pub(crate) struct Pair {
    /// From the client's to the server's.
    namespaces: Vec<NetNs>,
    /// From the client to the server.
    hops: Vec<Hop>,
    /// How many of them programs are attached to.
    watched: usize,
    ends: Ends,
    class: Class,
    shipped: Ebpf,
    bench: Ebpf,
    target: ProgramArray<MapData>,
    counts: PerCpuArray<MapData, u64>,
    watch: Option<PathBuf>,
    /// Interfaces beside the client's that the probe is attached to.
    also: u32,
}

impl Pair {
    /// With an object that has the shipped programs and maps; `watch`: the shipped command, if it is to be had.
    pub(crate) fn new(object: &[u8], settings: &Settings, watch: Option<PathBuf>) -> Result<Self> {
        Self::through(0, object, settings, watch)
    }

    /// The same, with so many routers in between.
    pub(crate) fn through(
        routers: usize,
        object: &[u8],
        settings: &Settings,
        watch: Option<PathBuf>,
    ) -> Result<Self> {
        let (namespaces, hops) = way(routers)?;
        let mut shipped = load::load_object(object, settings, object::INTERFACE)?;
        let mut bench = EbpfLoader::new().load(object::BENCH)?;
        classifier(&mut bench, "next_port")?.load()?;
        let empty = classifier(&mut bench, "empty")?;
        empty.load()?;
        for hop in &hops {
            let clsact = || qdisc_add_clsact(&hop.interface);
            let _where_there_is_tcx_it_is_of_no_use = namespaces[hop.namespace].run(clsact)?;
        }
        // Attaching the first program of a machine changes the kernel's code; that is not what is measured.
        namespaces[0].run(|| {
            let _where_there_is_tcx_it_is_of_no_use = qdisc_add_clsact("lo");
            empty.attach("lo", TcAttachType::Ingress)
        })??;
        let class = Class::highest();
        let map = |ebpf: &mut Ebpf, name| ebpf.take_map(name).context(name);
        Ok(Self {
            ends: Ends::start(&namespaces[routers + 1], &server(routers), class)?,
            namespaces,
            hops,
            watched: 1,
            class,
            target: map(&mut bench, "TARGET")?.try_into()?,
            counts: map(&mut shipped, object::COUNTS)?.try_into()?,
            shipped,
            bench,
            watch,
            also: 0,
        })
    }

    /// Whether an observer's program is there.
    pub(crate) fn has(&self, observer: Observer) -> bool {
        match observer {
            Observer::Watch => self.watch.is_some(),
            Observer::Tcpdump | Observer::Tshark => installed(observer.name()),
            _ => true,
        }
    }

    /// Programs are attached to so many interfaces on the way from now on.
    pub(crate) fn watch_of_the_way(&mut self, interfaces: usize) -> Result<()> {
        let all = self.hops.len();
        ensure!(interfaces <= all, "{interfaces} interfaces of {all}");
        self.watched = interfaces;
        Ok(())
    }

    /// A block with an observer.
    pub(crate) fn block(&mut self, observer: Observer, work: Work) -> Result<Block> {
        progress::ongoing()?;
        let attached = self.attach(observer)?;
        let process = match &attached {
            Attached::Process(_, process) => Some(process.id()),
            _ => None,
        };
        let used = |process: Option<u32>| process.map_or(Ok(Duration::ZERO), of_processes);
        let before = used(process)?;
        let start = (Instant::now(), processor_time()?);
        let last = thread::available_parallelism()?.get() - 1;
        let (class, ends) = (self.class, &self.ends);
        self.namespaces[0].run(move || {
            run_on(last, class)?;
            ends.work(work)
        })??;
        let by_part = |time: Duration| time.as_secs_f64() * 1e6 / work.parts() as f64;
        let block = Block {
            time: by_part(start.0.elapsed()),
            processor: by_part(processor_time()? - start.1),
            observer: by_part(used(process)?.saturating_sub(before)),
        };
        self.detach(attached)?;
        Ok(block)
    }

    /// A quad; in the order of its name, or the other way round. What is returned is in the first.
    pub(crate) fn quad(&mut self, with: Observer, work: Work, first: bool) -> Result<Quad> {
        let none = Observer::None;
        if first {
            let [before, one] = [self.block(none, work)?, self.block(with, work)?];
            return Ok([
                before,
                one,
                self.block(with, work)?,
                self.block(none, work)?,
            ]);
        }
        let [one, before] = [self.block(with, work)?, self.block(none, work)?];
        let [after, two] = [self.block(none, work)?, self.block(with, work)?];
        Ok([before, one, two, after])
    }

    /// How long a program ran so far, and how often. The kernel counts while somebody asks it to.
    pub(crate) fn ran(&self, observer: Observer) -> Result<(Duration, u64)> {
        let (ebpf, name) = match observer {
            Observer::Empty => (&self.bench, "empty"),
            _ => (&self.shipped, object::INTERFACE.watch),
        };
        let info = ebpf
            .program(name)
            .map(Program::info)
            .context("no such program")??;
        Ok((info.run_time(), info.run_count()))
    }

    /// How many connections the probe has followed so far.
    pub(crate) fn followed(&self) -> Result<u64> {
        opened(&self.counts)
    }

    /// Connections that the probe follows beside those of the work, by number: their SYNs, as if they had come.
    pub(crate) fn beside(&mut self, numbers: Range<u32>) -> Result<()> {
        let before = opened(&self.counts)?;
        let wanted = numbers.len() as u64;
        let watch: &mut SchedClassifier =
            load::program(&mut self.shipped, object::INTERFACE.watch)?;
        self.target.set(0, watch.fd()?, 0)?;
        let program = classifier(&mut self.bench, "next_port")?;
        one_of_each(program, numbers, |client| client.says(SYN, 0, &[]))?;
        let opened = opened(&self.counts)? - before;
        ensure!(opened == wanted, "{opened} of {wanted} connections opened");
        Ok(())
    }

    /// Attaches the probe to interfaces beside the client's, until there are so many.
    pub(crate) fn watch_also(&mut self, interfaces: u32) -> Result<()> {
        while self.also < interfaces {
            let name = format!("d{}", self.also);
            // Of the one kind that every machine of ours has, its end included.
            ip(&self.namespaces[0], &format!("link add {name} type veth"))?;
            ip(&self.namespaces[0], &format!("link set {name} up"))?;
            let program: &mut SchedClassifier =
                load::program(&mut self.shipped, object::INTERFACE.watch)?;
            self.namespaces[0].run(|| {
                let _where_there_is_tcx_it_is_of_no_use = qdisc_add_clsact(&name);
                program.attach(&name, TcAttachType::Ingress)?;
                program.attach(&name, TcAttachType::Egress)
            })??;
            self.also += 1;
        }
        Ok(())
    }

    fn attach(&mut self, observer: Observer) -> Result<Attached> {
        let program = match observer {
            Observer::None => return Ok(Attached::Nothing),
            Observer::Tap => return Ok(Attached::Tap(self.namespaces[0].run(|| tap(CLIENT))??)),
            Observer::Watch => {
                let program = self.watch.as_ref().context("no command to watch with")?;
                let options = ["watch", "--interface", CLIENT, "--library", "off"];
                return self.process(observer, Command::new(program).args(options), "watching");
            }
            Observer::Tcpdump => {
                let options = ["-i", CLIENT, "-U", "-w", "/dev/null"];
                return self.process(
                    observer,
                    Command::new("tcpdump").args(options),
                    "listening on",
                );
            }
            Observer::Tshark => {
                let wanted = "tls.handshake.type==1 || tls.alert_message";
                let options = ["-i", CLIENT, "-l", "-Y", wanted, "-T", "fields"];
                let fields = ["-e", "tls.handshake.extensions_server_name"];
                let mut command = Command::new("tshark");
                return self.process(observer, command.args(options).args(fields), "Capturing on");
            }
            Observer::Empty => classifier(&mut self.bench, "empty")?,
            Observer::Probe => load::program(&mut self.shipped, object::INTERFACE.watch)?,
        };
        let mut links = Vec::new();
        for hop in &self.hops[..self.watched] {
            self.namespaces[hop.namespace].run(|| {
                for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
                    let link = program.attach(&hop.interface, direction)?;
                    links.push((hop.namespace, link));
                }
                anyhow::Ok(())
            })??;
        }
        Ok(Attached::Program(observer, links))
    }

    /// A process, once it says that it is ready.
    fn process(
        &self,
        observer: Observer,
        command: &mut Command,
        ready: &'static str,
    ) -> Result<Attached> {
        let name = command.get_program().display().to_string();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let started = self.namespaces[0].run(|| command.spawn())?;
        let mut process = Running(started.context(name.clone())?);
        let said = process.0.stderr.take().context("no standard error")?;
        let (tell, told) = channel();
        thread::spawn(move || {
            // To its end: who has nowhere to complain to may end of it.
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                let _nobody_waits = tell.send(line);
            }
        });
        let start = Instant::now();
        let mut last = String::new();
        while !last.contains(ready) {
            let left = Duration::from_secs(20).saturating_sub(start.elapsed());
            match told.recv_timeout(left) {
                Ok(line) => last = line,
                Err(_) => bail!("{name} did not say `{ready}`, but `{last}`"),
            }
        }
        Ok(Attached::Process(observer, process))
    }

    fn detach(&mut self, attached: Attached) -> Result<()> {
        match attached {
            Attached::Nothing => {}
            Attached::Tap(tap) => drop(tap),
            Attached::Process(observer, mut process) => {
                let (ended, what) = (process.0.try_wait()?, observer.what());
                ensure!(ended.is_none(), "{what} ended by itself: {ended:?}");
                process.end(observer.patience())?;
            }
            Attached::Program(observer, links) => {
                let program = match observer {
                    Observer::Empty => classifier(&mut self.bench, "empty")?,
                    _ => load::program(&mut self.shipped, object::INTERFACE.watch)?,
                };
                for (namespace, link) in links {
                    // In the namespace: where there is no tcx, an interface is found by its name.
                    self.namespaces[namespace].run(|| program.detach(link))??;
                }
            }
        }
        Ok(())
    }
}

/// What is attached.
enum Attached {
    Nothing,
    /// With the namespace of each link.
    Program(Observer, Vec<(usize, SchedClassifierLinkId)>),
    Tap(OwnedFd),
    Process(Observer, Running),
}

/// A process, which does not outlive this, whatever goes wrong.
struct Running(Child);

impl Running {
    fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end, so that it takes along what it attached; insists where it does not, or leaves a child.
    fn end(&mut self, patience: Duration) -> Result<()> {
        if self.0.try_wait()?.is_some() {
            return Ok(());
        }
        let processes = tree(self.id())?;
        kill(Pid::from_raw(self.id().cast_signed()), Signal::SIGTERM)?;
        let start = Instant::now();
        while self.0.try_wait()?.is_none() && start.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        for process in processes {
            // Most have ended.
            let _gone = kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL);
        }
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_before = self.end(Duration::from_secs(1));
    }
}

/// Namespaces from the client's to the server's, with so many routers in between, and the interfaces on the way.
fn way(routers: usize) -> Result<(Vec<NetNs>, Vec<Hop>)> {
    let last = routers + 1;
    let label = |at| match at {
        0 => "of the client".into(),
        _ if at == last => "of the server".into(),
        _ => format!("of router {at}"),
    };
    let namespaces: Vec<NetNs> = (0..=last)
        .map(|at| NetNs::anonymous(&label(at)))
        .collect::<Result<_, _>>()?;
    let mut hops = Vec::new();
    for (link, ends) in namespaces.windows(2).enumerate() {
        let names = [format!("c{link}"), format!("s{link}")];
        let [here, there] = &names;
        let peer = ends[1].path();
        let pair = format!(
            "link add {here} type veth peer name {there} netns {}",
            peer.display()
        );
        ip(&ends[0], &pair)?;
        for (at, interface) in names.into_iter().enumerate() {
            let address = format!("addr add 10.88.{link}.{}/24 dev {interface}", at + 1);
            ip(&ends[at], &format!("link set {interface} up"))?;
            ip(&ends[at], &address)?;
            hops.push(Hop {
                namespace: link + at,
                interface,
            });
        }
    }
    for (at, namespace) in namespaces.iter().enumerate() {
        ip(namespace, "link set lo up")?;
        if at < last && routers > 0 {
            ip(namespace, &format!("route add default via 10.88.{at}.2"))?;
        }
        if at > 1 {
            let back = format!("route add 10.88.0.0/24 via 10.88.{}.1", at - 1);
            ip(namespace, &back)?;
        }
        if at > 0 && at < last {
            // A thread sees the files of its own namespace.
            namespace.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        }
    }
    Ok((namespaces, hops))
}

/// The server's address, beyond so many routers.
fn server(routers: usize) -> String {
    format!("10.88.{routers}.2")
}

/// A process, its children and theirs; the first last.
fn tree(process: u32) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for task in tasks(process)? {
        // A thread may have ended since it was listed.
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            all.extend(tree(child.parse()?).unwrap_or_default());
        }
    }
    all.push(process);
    Ok(all)
}

fn tasks(process: u32) -> Result<Vec<PathBuf>> {
    let tasks = format!("/proc/{process}/task");
    let listed = fs::read_dir(&tasks).with_context(|| tasks.clone())?;
    listed.map(|task| Ok(task?.path())).collect()
}

/// What a process, its threads and its children have used of all processors.
fn of_processes(process: u32) -> Result<Duration> {
    let mut used = 0;
    for process in tree(process)? {
        for task in tasks(process).unwrap_or_default() {
            let said = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            let nanoseconds = said.split_whitespace().next();
            used += nanoseconds.map_or(Ok(0), str::parse::<u64>)?;
        }
    }
    Ok(Duration::from_nanos(used))
}

fn installed(program: &str) -> bool {
    let mut command = Command::new(program);
    let command = command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `ip`, inside a namespace. Arguments are separated by spaces.
pub(crate) fn ip(namespace: &NetNs, arguments: &str) -> Result<()> {
    let mut command = Command::new("ip");
    let output = namespace.run(|| command.args(arguments.split(' ')).output())??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", said.trim());
    Ok(())
}

/// What this process has used of all processors.
fn processor_time() -> Result<Duration> {
    let spent = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(Duration::from_nanos(u64::try_from(
        spent.num_nanoseconds(),
    )?))
}
