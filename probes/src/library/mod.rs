//! What TLS libraries themselves say: probes inside OpenSSL, BoringSSL and GnuTLS, wherever a process of
//! this machine has them as a shared library, or in a program that is named, and their words joined to what the wire
//! showed.
//!
//! | module | does |
//! |---|---|
//! | [`btf`] | where the kernel keeps a socket's fields |
//! | [`object`] | the BPF object, and its names |
//! | [`find`] | files that are mapped as code, or will be |
//! | [`mapped`] | notices new mappings |
//! | [`symbols`] | a file -> the places to probe |
//! | `attach` | places -> probes, one set for each file |
//! | `keeper` | a thread that keeps the probes where the processes are |
//! | [`join`] | a failure on the wire and the words about it -> one event |
//! | [`ruling`] | what the words mean for the event |
//! | [`names`] | numbers of libraries -> their own texts, and the alerts they send for them |
//!
//! Of a program that a library is linked into, the file has to be named: it may be any, and is probed only if it has
//! its symbols. Go and rustls are not probed.
//!
//! # Kernel
//! 5.10 with BTF; CAP_SYS_PTRACE to see what other users' processes have mapped, CAP_SYS_ADMIN or
//! CAP_CHECKPOINT_RESTORE (5.9) to reach libraries that an update has replaced.

mod attach;
pub mod btf;
pub mod find;
pub mod join;
mod keeper;
pub mod mapped;
pub mod names;
pub mod object;
pub mod ruling;
pub mod symbols;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use gauntlet_wire::library::{ABI, COMM, Counter, Ends, Standing, WORDS_BYTES, Word};
use zerocopy::FromBytes as _;

use self::attach::Attacher;
use self::join::Heard;
use self::keeper::Keeper;
use self::symbols::Depth;
use crate::failure::readable;
use crate::load::LoadError;
use crate::probe::Plain;

/// Where to probe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Every TLS library that a process uses, or comes to use.
    pub all: bool,
    /// These files, whatever they are called, and whether somebody uses them or not.
    pub files: Vec<PathBuf>,
    /// How much of what they do is looked at.
    pub depth: Depth,
}

/// Why no library is probed.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The kernel does not say where it keeps a socket's fields.
    #[error(transparent)]
    Layout(#[from] btf::BtfError),
    /// The programs are not in the kernel.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map cannot be used.
    #[error("map {map}: {source}")]
    Map {
        /// Which.
        map: &'static str,
        /// What went wrong.
        #[source]
        source: MapError,
    },
    /// New mappings cannot be watched.
    #[error("new processes cannot be noticed: {0}")]
    Mappings(#[source] std::io::Error),
    /// A file that was asked for cannot be probed.
    #[error("{0}")]
    File(String),
}

/// Libraries being probed. Dropping it detaches everything.
pub struct Libraries {
    // Dropped first: nothing may run once the maps go.
    keeper: Keeper,
    words: RingBuf<MapData>,
    standings: HashMap<MapData, Plain<Ends>, Plain<Standing>>,
    counts: PerCpuArray<MapData, u64>,
}

impl Libraries {
    /// Loads the programs, and attaches them to every library there is; later ones as they come.
    ///
    /// # Errors
    /// [`LibraryError`]; then nothing is left attached.
    pub fn start(selection: &Selection) -> Result<Self, LibraryError> {
        let mut attacher = Attacher::new(&object::Kernel::running()?, selection.depth)?;
        let maps = attacher.maps();
        let words = take(maps, object::WORDS, RingBuf::try_from)?;
        let standings = take(maps, object::STANDINGS, HashMap::try_from)?;
        let counts = take(maps, object::COUNTS, PerCpuArray::try_from)?;
        Ok(Self {
            keeper: Keeper::start(attacher, selection)?,
            words,
            standings,
            counts,
        })
    }

    /// How many libraries are probed at the moment.
    #[must_use]
    pub fn probed(&self) -> usize {
        self.keeper.probed()
    }

    /// Why a library that was found is not probed.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.keeper.refused()
    }

    /// Stops: no call after this is seen. What was said stays to be read.
    pub fn detach(&mut self) {
        self.keeper.stop();
    }

    /// Takes every word that is in the ring buffer; of those that come meanwhile no more than fit.
    pub fn drain(&mut self, mut each: impl FnMut(Heard)) {
        for _ in 0..WORDS_BYTES as usize / size_of::<Word>() {
            let Some(item) = self.words.next() else { break };
            // The kernel wrote a whole `Word` of this build's layout: both come from one object.
            if let Ok(word) = Word::read_from_bytes(&item)
                && word.abi == ABI
            {
                let executable = executable(word.process, &word.comm);
                each(Heard { word, executable });
            }
        }
    }

    /// What is known of an end of a connection whose library has not failed.
    #[must_use]
    pub fn standing(&self, ends: &Ends) -> Option<Standing> {
        self.standings
            .get(&Plain(*ends), 0)
            .ok()
            .map(|Plain(standing)| standing)
    }

    /// What was counted, by cause.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counts(&self) -> Result<BTreeMap<&'static str, u64>, LibraryError> {
        let count = |counter: &Counter| {
            let values = self.counts.get(&(*counter as u32), 0);
            let values = values.map_err(|source| LibraryError::Map {
                map: object::COUNTS,
                source,
            })?;
            Ok::<_, LibraryError>((counter.name(), values.iter().sum()))
        };
        let mut counts: BTreeMap<_, _> =
            Counter::ALL.iter().map(count).collect::<Result<_, _>>()?;
        counts.insert("library_refused", self.keeper.refused().len() as u64);
        Ok(counts)
    }
}

impl AsFd for Libraries {
    /// Readable when there are words.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }
}

/// The name of a process's executable; of its thread, where the process has gone.
#[must_use]
pub fn executable(process: u32, comm: &[u8; COMM]) -> String {
    let link = fs::read_link(format!("/proc/{process}/exe")).ok();
    if let Some(name) = link.as_deref().and_then(|path| path.file_name()) {
        let name = name.to_string_lossy();
        return readable(name.strip_suffix(" (deleted)").unwrap_or(&name));
    }
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(COMM);
    readable(&String::from_utf8_lossy(&comm[..end]))
}

fn take<M>(
    ebpf: &mut aya::Ebpf,
    name: &'static str,
    from: impl FnOnce(Map) -> Result<M, MapError>,
) -> Result<M, LibraryError> {
    let map = ebpf.take_map(name).ok_or(LoadError::Missing(name))?;
    from(map).map_err(|source| LibraryError::Map { map: name, source })
}
