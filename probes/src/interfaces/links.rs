//! Says that links or addresses of a network namespace have changed, and which links were deleted: a thread
//! that sleeps until the kernel's rtnetlink says so (the `rtnetlink` crate, which is asynchronous), and a
//! descriptor to wait for together with others.
//!
//! Does not say what has changed beyond that: whoever wants to know looks, so that nothing depends on a
//! message that the kernel had to drop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use futures_util::StreamExt as _;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::sync::oneshot;

use super::InterfacesError;
use crate::netns::{NetNs, NetNsError};

/// Changes of a namespace's links and addresses, as long as this lives.
#[derive(Debug)]
pub(super) struct Links {
    wake: Arc<EventFd>,
    /// The index of a link that was deleted, if that is what changed.
    changes: Receiver<Option<u32>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Links {
    /// Follows them: every change after this is told.
    pub(super) fn follow(namespace: &NetNs) -> Result<Self, InterfacesError> {
        let fail = |source| InterfacesError::Follow {
            namespace: namespace.label().into(),
            source,
        };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_flags(flags).map_err(|error| fail(error.into()))?;
        let wake = Arc::new(wake);
        let waker = Arc::clone(&wake);
        let (told, changes) = channel();
        let (end, ended) = oneshot::channel();
        let (ready, started) = channel();
        let inside = namespace.try_clone()?;
        let thread = thread::Builder::new()
            .name("links".into())
            .spawn(move || match inside.enter() {
                Ok(()) => run(&waker, told, &ready, ended),
                Err(error) => drop(ready.send(Err(Start::Namespace(error)))),
            })
            .map_err(fail)?;
        let links = Self {
            wake,
            changes,
            end: Some(end),
            thread: Some(thread),
        };
        match started.recv() {
            Ok(Ok(())) => Ok(links),
            Ok(Err(Start::Namespace(error))) => Err(error.into()),
            Ok(Err(Start::Socket(error))) => Err(fail(error)),
            Err(_) => Err(fail(io::Error::other("its thread has ended"))),
        }
    }

    /// Whether something has changed since the last time, and the links that were deleted.
    pub(super) fn changes(&self) -> io::Result<Option<Vec<u32>>> {
        match self.wake.read() {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut deleted = Vec::new();
        loop {
            match self.changes.try_recv() {
                Ok(change) => deleted.extend(change),
                Err(TryRecvError::Empty) => return Ok(Some(deleted)),
                Err(TryRecvError::Disconnected) => {
                    return Err(io::Error::other(
                        "the netlink socket cannot be read any more",
                    ));
                }
            }
        }
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Why the thread does not listen.
enum Start {
    Namespace(NetNsError),
    Socket(io::Error),
}

/// The thread, inside the namespace: tells until it is to end, or nothing more can come.
fn run(
    wake: &EventFd,
    told: Sender<Option<u32>>,
    ready: &Sender<Result<(), Start>>,
    ended: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(Start::Socket(error)))),
    };
    let listening = async {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, _handle, mut messages) = match rtnetlink::new_multicast_connection(&groups)
        {
            Ok(opened) => opened,
            Err(error) => return drop(ready.send(Err(Start::Socket(error)))),
        };
        tokio::spawn(connection);
        if ready.send(Ok(())).is_err() {
            return;
        }
        while let Some((message, _)) = messages.next().await {
            let deleted = match message.payload {
                // A bridge's port that leaves it is still there: that one is of the bridge's family.
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
                    if link.header.interface_family == AddressFamily::Unspec =>
                {
                    Some(link.header.index)
                }
                _ => None,
            };
            if told.send(deleted).is_err() {
                return;
            }
            let _full = wake.write(1);
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = listening => {}
            _ = ended => {}
        }
    });
    drop(told);
    let _full = wake.write(1);
}
