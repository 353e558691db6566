//! The maps as the wire crate's machine wants them. What is unsafe about a map's element is here: it
//! stays readable while the program runs, and each part of it has one writer (the wire crate's
//! documentation says which).

use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skb_cgroup_id};
use gauntlet_wire::counters::Counter;
use gauntlet_wire::event::ABI;
use gauntlet_wire::flow::{CAPTURE_LABEL, CAPTURE_SPACE, Flow};
use gauntlet_wire::machine::{Opened, Removal, Tables};
use gauntlet_wire::packet::{Endpoint, FlowKey, Parsed};
use gauntlet_wire::rules::Failure;
use gauntlet_wire::segment::Payload;
use gauntlet_wire::side::GATHER;
use gauntlet_wire::window::{WINDOW, Window, WindowKey};

use crate::held;
use crate::maps::{
    FLOWS, NEW_FLOW, NEW_WINDOW, TLS_PORTS, TLS_SERVERS, WINDOWS, capture_time, count, count_class,
};
use crate::offer::Offer;
use crate::skb::{Skb, captured, gathered, label, opaque, settled};

/// The maps, the packet in hand, and this program's place among those that run on this CPU.
pub(crate) struct Maps {
    pub(crate) skb: Skb,
    pub(crate) place: u32,
}

/// An element of a map.
pub(crate) struct Element<T>(NonNull<T>);

impl<T> Element<T> {
    #[inline(always)]
    fn new(found: Option<*mut T>) -> Option<Self> {
        NonNull::new(found?).map(Self)
    }
}

impl<T> Deref for Element<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: a map's element stays readable while the program runs.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for Element<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above; each part of an element has one writer.
        unsafe { self.0.as_mut() }
    }
}

/// What the kernel says to the removal of what is not there: ENOENT.
const GONE: i32 = -2;
/// What it says to the insertion of what is there: EEXIST.
const THERE: i32 = -17;

impl Tables for Maps {
    type Flow<'t>
        = Element<Flow>
    where
        Self: 't;
    type Window<'t>
        = Element<Window>
    where
        Self: 't;
    type Offer = Offer;

    #[inline(always)]
    fn now(&self) -> u64 {
        if let Some(time) = capture_time(self.skb) {
            return time;
        }
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn cgroup(&self, from: u16, to: u16) -> u64 {
        // Where it is received, and where another program has assigned it one, its socket is the receiver's.
        if from == to || self.skb.socket_port() != Some(from) {
            return 0;
        }
        // SAFETY: the context is the kernel's own.
        unsafe { bpf_skb_cgroup_id(self.skb.0.cast()) }
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<Element<Flow>> {
        Element::new(FLOWS.get_ptr_mut(key))
    }

    #[inline(always)]
    fn open(&self, key: &FlowKey, opened: &Opened) -> bool {
        let Some(mut flow) = Element::new(NEW_FLOW.get_ptr_mut(self.place)) else {
            return false;
        };
        let ifindex = self.skb.interface();
        flow.open(opened.time, ifindex, opened.known, opened.client_first);
        held::add(key);
        match FLOWS.insert(key, &*flow, BPF_NOEXIST.into()) {
            Ok(()) => return true,
            // In the place of another, which was counted.
            Err(THERE) if FLOWS.insert(key, &*flow, BPF_EXIST.into()).is_ok() => {
                held::remove(key);
                return true;
            }
            Err(_) => {}
        }
        held::remove(key);
        false
    }

    #[inline(always)]
    fn remove(&self, key: &FlowKey) -> Removal {
        match FLOWS.remove(key) {
            Ok(()) => {
                held::remove(key);
                Removal::Ours
            }
            Err(GONE) => Removal::Gone,
            Err(_) => Removal::Refused,
        }
    }

    #[inline(always)]
    fn window(&self, key: &WindowKey) -> Option<Element<Window>> {
        Element::new(WINDOWS.get_ptr_mut(key))
    }

    #[inline(always)]
    fn open_window(&self, key: &WindowKey) -> Option<Element<Window>> {
        if let Some(window) = self.window(key) {
            return Some(window);
        }
        let empty = Element::new(NEW_WINDOW.get_ptr_mut(0))?;
        WINDOWS.insert(key, &*empty, 0).ok()?;
        self.window(key)
    }

    #[inline(always)]
    fn remove_window(&self, key: &WindowKey) {
        // Where it fails, the collector finds a window without a flow.
        let _ = WINDOWS.remove(key);
    }

    #[inline(always)]
    fn knows(&self, server: &Endpoint) -> bool {
        TLS_PORTS
            .get(u32::from(server.port))
            .is_some_and(|said| *said != 0)
            || TLS_SERVERS.get_ptr(server).is_some()
    }

    #[inline(always)]
    fn learn(&self, server: &Endpoint) {
        let _ = TLS_SERVERS.insert(server, &1, 0);
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        count(counter);
    }

    #[inline(always)]
    fn count_class(&self, failure: &Failure, version: u16, time: u64) {
        count_class(failure, version, time);
    }

    #[inline(always)]
    fn room(&self) -> Option<Offer> {
        Offer::new(self.place)
    }

    #[inline(always)]
    fn fill(
        &self,
        offer: &mut Offer,
        flow: &Flow,
        parsed: &Parsed,
        failure: Failure,
        undecided: bool,
    ) {
        let event = offer.event();
        // SAFETY: `event` is of this offer, and holds a whole `Event`.
        let to = unsafe { &raw mut (*event).flow };
        // SAFETY: source and destination are both as large as a `Flow`.
        unsafe {
            bpf_probe_read_kernel(
                to.cast(),
                size_of::<Flow>() as u32,
                (&raw const *flow).cast(),
            );
        }
        let ifindex = self.skb.interface();
        // SAFETY: `event` is of this offer, and of nobody else; every field but `flow` is written here.
        let event = unsafe { &mut *event };
        event.time = parsed.segment.time;
        event.abi = ABI;
        event.ifindex = ifindex;
        event.key = parsed.key;
        event.verdict = failure.into();
        event.undecided = u8::from(undecided);
        event.reserved = [0; 5];
    }

    #[inline(always)]
    fn tell(&self, offer: Offer) -> bool {
        offer.tell(self.skb)
    }

    #[inline(always)]
    fn withdraw(&self, offer: Offer) {
        offer.withdraw();
    }
}

impl Element<Window> {
    /// # Safety
    /// `into` must be valid for writes of `count` bytes.
    #[inline(always)]
    unsafe fn read(&self, from: u32, into: *mut u8, count: u32) -> bool {
        let from = opaque(from);
        if from > WINDOW as u64 {
            return false;
        }
        let bytes = self.bytes.as_ptr();
        // SAFETY: `from` is at most WINDOW, inside the array.
        let source = unsafe { bytes.add(from as usize) };
        // SAFETY: the helper checks the source itself; the caller vouches for the destination, and the
        // verifier checks it again.
        unsafe { bpf_probe_read_kernel(into.cast(), count, source.cast()) == 0 }
    }
}

impl Payload for Element<Window> {
    #[inline(always)]
    fn gather(&self, from: u32, into: &mut [u8; 2 * GATHER], at: u32, count: u32) -> bool {
        let (to, count) = gathered(into, at, count);
        // SAFETY: `gathered` says where, and how much fits.
        unsafe { self.read(from, to, count) }
    }

    #[inline(always)]
    fn capture(&self, from: u32, into: &mut [u8; CAPTURE_SPACE], at: u32, count: u32) -> bool {
        match captured(into, at, count) {
            // SAFETY: `captured` says where, and how much fits.
            Some((to, count)) => unsafe { self.read(from, to, count) },
            None => false,
        }
    }

    #[inline(always)]
    fn label(&self, into: &mut [u8; CAPTURE_SPACE], at: u32, what: [u8; CAPTURE_LABEL as usize]) {
        label(into, at, what);
    }

    #[inline(always)]
    fn settle(&self, place: &mut u32, number: u32) -> u32 {
        settled(place, number)
    }
}
