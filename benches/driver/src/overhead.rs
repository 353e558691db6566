//! What a probe costs those whom it watches: handshakes between two network namespaces, by rustls at both ends,
//! with and without an observer at the client's interface.
//!
//! In paired blocks, `without, with, with, without`: what drifts, drifts for both. Plain runs one after the other
//! show nothing here; the same observer against itself is measured as well, and says how much the others'
//! figures are worth.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::tc::{SchedClassifierLinkId, TcAttachType, qdisc_add_clsact};
use aya::programs::{Program, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use gauntlet_probes::load::{self, Settings};
use gauntlet_probes::netns::NetNs;
use gauntlet_probes::object;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use rustls::client::Resumption;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream,
};

use crate::measurement::{Measurement, noise};
use crate::processor::{Class, run_on};

/// What is at the client's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Observer {
    /// Nothing: the control.
    None,
    /// A program that does nothing, in both directions.
    Empty,
    /// The shipped program, in both directions.
    Probe,
    /// An AF_PACKET socket with a ring (TPACKET_V3) that nobody reads.
    Tap,
    /// `tcpdump -U -w /dev/null`, if there is one.
    Tcpdump,
}

impl Observer {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Empty => "empty",
            Self::Probe => "probe",
            Self::Tap => "tap",
            Self::Tcpdump => "tcpdump",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Empty => "an empty program",
            Self::Probe => "the probe",
            Self::Tap => "an AF_PACKET tap, unread",
            Self::Tcpdump => "tcpdump",
        }
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Quads of blocks for each observer.
    pub quads: usize,
    /// Handshakes in a block.
    pub handshakes: usize,
}

impl Plan {
    /// Seconds.
    pub const QUICK: Self = Self {
        quads: 7,
        handshakes: 40,
    };
    /// A minute or two.
    pub const FULL: Self = Self {
        quads: 40,
        handshakes: 80,
    };
}

const CLIENT: &str = "c0";
const SERVER: &str = "s0";
const ADDRESS: &str = "10.88.0.2:443";

/// Measures all observers, again and again.
pub struct Session {
    stand: Stand,
    plan: Plan,
    /// Each with its quads: without, with, with, without.
    observers: Vec<(Observer, Vec<[Block; 4]>)>,
    /// Nanoseconds of the shipped program in place, and in those of the empty one.
    in_place: (Vec<f64>, Vec<f64>),
}

impl Session {
    /// With an object that has the shipped programs and maps.
    ///
    /// # Errors
    /// When namespaces cannot be made, or programs not be loaded.
    pub fn new(object: &[u8], plan: Plan) -> Result<Self> {
        let mut observers = vec![
            Observer::None,
            Observer::Empty,
            Observer::Probe,
            Observer::Tap,
        ];
        if installed("tcpdump") {
            observers.push(Observer::Tcpdump);
        }
        let mut stand = Stand::new(object, plan.handshakes)?;
        stand.block(Observer::None)?; // once unmeasured
        Ok(Self {
            stand,
            plan,
            observers: observers.into_iter().map(|one| (one, Vec::new())).collect(),
            in_place: Default::default(),
        })
    }

    /// The plan's quads once more.
    ///
    /// # Errors
    /// When handshakes fail, or an observer cannot be had.
    pub fn measure(&mut self) -> Result<Vec<Measurement>> {
        for round in 0..self.plan.quads {
            for place in 0..self.observers.len() {
                let which = (place + round) % self.observers.len();
                let with = self.observers[which].0;
                let quad = self.stand.quad(with, round % 2 == 0)?;
                self.observers[which].1.push(quad);
            }
        }
        self.stand.in_place(self.plan.quads, &mut self.in_place)?;
        let mut all = self.of("time", "time of a handshake", Block::time);
        let what = "processor time of a handshake, both ends";
        all.extend(self.of("processor", what, Block::processor));
        let (ratios, values) = self.in_place.clone();
        all.push(Measurement::new(
            "program.in_place",
            "a packet of a handshake, in place",
            "an empty program in place",
            (values, "ns"),
            ratios,
            None,
        ));
        Ok(all)
    }

    /// One figure of all observers.
    fn of(&self, figure: &str, what: &str, value: fn(&Block) -> f64) -> Vec<Measurement> {
        let ratios = |quads: &[[Block; 4]]| -> Vec<f64> {
            let ratio = |[before, with, also, after]: &[Block; 4]| {
                (value(with) + value(also)) / (value(before) + value(after))
            };
            quads.iter().map(ratio).collect()
        };
        let control = self
            .observers
            .iter()
            .find(|(one, _)| *one == Observer::None);
        let noise = control.map(|(_, quads)| noise(&ratios(quads)));
        let measurement = |(observer, quads): &(Observer, Vec<[Block; 4]>)| {
            Measurement::new(
                format!("handshakes.{figure}.{}", observer.name()),
                format!("{what}, with {}", observer.what()),
                "nothing",
                (quads.iter().map(|quad| value(&quad[1])).collect(), "us"),
                ratios(quads),
                noise.filter(|_| *observer != Observer::None),
            )
        };
        self.observers.iter().map(measurement).collect()
    }
}

/// Some handshakes in a row: microseconds of each.
#[derive(Debug, Clone, Copy)]
struct Block {
    time: f64,
    processor: f64,
}

impl Block {
    const fn time(&self) -> f64 {
        self.time
    }

    const fn processor(&self) -> f64 {
        self.processor
    }
}

/// Two namespaces, a server that runs, and the observers.
struct Stand {
    client: NetNs,
    // Its interface goes with it.
    _server: NetNs,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    handshakes: usize,
    class: Class,
    shipped: Ebpf,
    bench: Ebpf,
}

impl Stand {
    fn new(object: &[u8], handshakes: usize) -> Result<Self> {
        let client = NetNs::anonymous("of the client")?;
        let server = NetNs::anonymous("of the server")?;
        let there = server.path();
        let pair = format!(
            "link add {CLIENT} type veth peer name {SERVER} netns {}",
            there.display()
        );
        ip(&client, &pair)?;
        for (namespace, interface, address) in [
            (&client, CLIENT, "10.88.0.1/24"),
            (&server, SERVER, "10.88.0.2/24"),
        ] {
            ip(namespace, "link set lo up")?;
            ip(namespace, &format!("link set {interface} up"))?;
            ip(namespace, &format!("addr add {address} dev {interface}"))?;
        }
        let shipped = load::load_object(object, &Settings::default(), object::INTERFACE)?;
        let mut bench = EbpfLoader::new().load(object::BENCH)?;
        let empty = classifier(&mut bench, "empty")?;
        empty.load()?;
        // Attaching the first program of a machine changes the kernel's code; that is not what is measured.
        client.run(|| {
            for interface in ["lo", CLIENT] {
                let _where_there_is_tcx_it_is_of_no_use = qdisc_add_clsact(interface);
            }
            empty.attach("lo", TcAttachType::Ingress)
        })??;
        let class = Class::highest();
        let (config, serve) = configs()?;
        let listener = server.run(|| TcpListener::bind(ADDRESS))??;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            let _like_everybody = run_on(0, class);
            for stream in listener.incoming() {
                // The client's end says what went wrong.
                let _ended = stream.map(|stream| answer(stream, &serve));
            }
        });
        Ok(Self {
            client,
            _server: server,
            address,
            config,
            handshakes,
            class,
            shipped,
            bench,
        })
    }

    /// A block with an observer.
    fn block(&mut self, observer: Observer) -> Result<Block> {
        let attached = self.attach(observer)?;
        let start = (Instant::now(), processor_time()?);
        self.shake_hands()?;
        let block = Block {
            time: micros(start.0.elapsed()) / self.handshakes as f64,
            processor: micros(processor_time()? - start.1) / self.handshakes as f64,
        };
        self.detach(attached)?;
        Ok(block)
    }

    fn shake_hands(&self) -> Result<()> {
        let last = thread::available_parallelism()?.get() - 1;
        let (class, address, times) = (self.class, self.address, self.handshakes);
        let config = &self.config;
        self.client.run(move || {
            run_on(last, class)?;
            (0..times).try_for_each(|_| ask(address, config))
        })?
    }

    fn attach(&mut self, observer: Observer) -> Result<Attached> {
        let program = match observer {
            Observer::None => return Ok(Attached::Nothing),
            Observer::Tap => return Ok(Attached::Tap(self.client.run(tap)??)),
            Observer::Tcpdump => return tcpdump(&self.client).map(Attached::Tcpdump),
            Observer::Empty => classifier(&mut self.bench, "empty")?,
            Observer::Probe => load::program(&mut self.shipped, object::INTERFACE.watch)?,
        };
        let links = self.client.run(|| {
            let ingress = program.attach(CLIENT, TcAttachType::Ingress)?;
            let egress = program.attach(CLIENT, TcAttachType::Egress)?;
            anyhow::Ok([ingress, egress])
        })??;
        Ok(Attached::Program(observer, links))
    }

    fn detach(&mut self, attached: Attached) -> Result<()> {
        match attached {
            Attached::Nothing => {}
            Attached::Tap(tap) => drop(tap),
            Attached::Tcpdump(mut child) => {
                child.kill()?;
                child.wait()?;
            }
            Attached::Program(observer, links) => {
                let program = match observer {
                    Observer::Empty => classifier(&mut self.bench, "empty")?,
                    _ => load::program(&mut self.shipped, object::INTERFACE.watch)?,
                };
                // In the namespace: where there is no tcx, an interface is found by its name.
                self.client
                    .run(|| links.into_iter().try_for_each(|link| program.detach(link)))??;
            }
        }
        Ok(())
    }

    /// Without, with, with, without; or the other way round. What is returned is in the first order.
    fn quad(&mut self, with: Observer, first: bool) -> Result<[Block; 4]> {
        let none = Observer::None;
        if first {
            let [before, one] = [self.block(none)?, self.block(with)?];
            return Ok([before, one, self.block(with)?, self.block(none)?]);
        }
        let [one, before] = [self.block(with)?, self.block(none)?];
        let [after, two] = [self.block(none)?, self.block(with)?];
        Ok([before, one, two, after])
    }

    /// Nanoseconds of the shipped program in place, on average over the packets of handshakes, in empty ones:
    /// with cold caches, and with what the kernel's own counting costs in both.
    fn in_place(
        &mut self,
        rounds: usize,
        (ratios, values): &mut (Vec<f64>, Vec<f64>),
    ) -> Result<()> {
        let _counting = aya::sys::enable_stats(aya::sys::Stats::RunTime)?;
        for _ in 0..rounds {
            let [empty, probe] = [Observer::Empty, Observer::Probe].map(|observer| {
                let before = self.ran(observer)?;
                self.block(observer)?;
                let after = self.ran(observer)?;
                let runs = after.1 - before.1;
                ensure!(runs > 0, "no packet passed {}", observer.what());
                Ok((after.0 - before.0).as_nanos() as f64 / runs as f64)
            });
            let (empty, probe) = (empty?, probe?);
            ratios.push(probe / empty);
            values.push(probe);
        }
        Ok(())
    }

    /// How long a program ran so far, and how often.
    fn ran(&mut self, observer: Observer) -> Result<(Duration, u64)> {
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
}

/// What is attached.
enum Attached {
    Nothing,
    Program(Observer, [SchedClassifierLinkId; 2]),
    Tap(OwnedFd),
    Tcpdump(Child),
}

/// A handshake, a question, an answer, the end. As a client.
fn ask(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut session = ClientConnection::new(Arc::clone(config), NAME.try_into()?)?;
    let mut tls = Stream::new(&mut session, &mut stream);
    tls.write_all(QUESTION)?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer)?;
    ensure!(answer == ANSWER, "another answer than was sent");
    Ok(())
}

/// The same, as a server. It closes first: the client's ports are free again at once.
fn answer(mut stream: TcpStream, config: &Arc<ServerConfig>) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut session = ServerConnection::new(Arc::clone(config))?;
    let mut tls = Stream::new(&mut session, &mut stream);
    let mut question = [0; QUESTION.len()];
    tls.read_exact(&mut question)?;
    tls.write_all(ANSWER)?;
    tls.conn.send_close_notify();
    tls.flush()?;
    Ok(())
}

const NAME: &str = "bench.test";
const QUESTION: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.0 204 No Content\r\n\r\n";

/// TLS 1.3, a certificate of P-256, and nothing that is remembered from one handshake to the next.
fn configs() -> Result<(Arc<ClientConfig>, Arc<ServerConfig>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())?;
    server.send_tls13_tickets = 0;
    Ok((Arc::new(client), Arc::new(server)))
}

/// A packet socket at the client's interface with a ring of 8 MiB.
fn tap() -> Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    ensure!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    option(
        &socket,
        libc::PACKET_VERSION,
        &(libc::tpacket_versions::TPACKET_V3 as libc::c_int),
    )?;
    let ring = libc::tpacket_req3 {
        tp_block_size: 1 << 18,
        tp_block_nr: 32,
        tp_frame_size: 2_048,
        tp_frame_nr: 32 * (1 << 18) / 2_048,
        tp_retire_blk_tov: 60,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    option(&socket, libc::PACKET_RX_RING, &ring)?;
    // SAFETY: zeros are a valid address of this kind.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = if_nametoindex(CLIENT)?.cast_signed();
    // SAFETY: `address` is as long as is said, and outlives the call.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    ensure!(bound == 0, "{}", std::io::Error::last_os_error());
    Ok(socket)
}

fn option<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> Result<()> {
    // SAFETY: `value` is as long as is said, and outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    ensure!(set == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

/// tcpdump, once it says that it listens.
fn tcpdump(namespace: &NetNs) -> Result<Child> {
    let mut command = Command::new("tcpdump");
    command
        .args(["-i", CLIENT, "-U", "-w", "/dev/null"])
        .stderr(Stdio::piped());
    let mut child = namespace.run(|| command.spawn())??;
    let said = child.stderr.take().context("no standard error")?;
    let (ready, readies) = channel();
    thread::spawn(move || {
        let lines = std::io::BufRead::lines(std::io::BufReader::new(said));
        for line in lines.map_while(std::io::Result::ok) {
            if line.contains("listening on") {
                let _nobody_waits = ready.send(());
            }
        }
    });
    if readies.recv_timeout(Duration::from_secs(10)).is_err() {
        child.kill()?;
        child.wait()?;
        bail!("tcpdump does not listen");
    }
    Ok(child)
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
fn ip(namespace: &NetNs, arguments: &str) -> Result<()> {
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

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn classifier<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut SchedClassifier> {
    let program = ebpf.program_mut(name).context("no such program")?;
    Ok(program.try_into()?)
}
