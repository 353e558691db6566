//! From a loaded program to both directions of an interface, and back: what was attached here is
//! detached when it is dropped, and nothing else is touched.
//!
//! Where the kernel has tcx (6.6) the attachment is a link, which the kernel removes with the
//! process however it ends. Before that it is a filter of a clsact qdisc ([`Filters`]).
//!
//! The programs return TC_ACT_UNSPEC, so that every other program and filter still has its turn.

mod clsact;
mod tc;

use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use crate::load::{LoadError, program};
use crate::netns::{NetNs, NetNsError};
use crate::object;

pub use self::clsact::{ClsactError, Filters};

/// How to attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hook {
    /// tcx where the kernel has it, else clsact.
    #[default]
    Auto,
    /// tcx.
    ///
    /// # Kernel
    /// 6.6.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

/// Why an interface is not watched.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such interface.
    #[error("interface {interface}: there is none of that name in network namespace {namespace}")]
    NoInterface {
        /// Its name.
        interface: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The kernel refused.
    #[error("interface {interface}: cannot be attached to: {source}")]
    Refused {
        /// Its name.
        interface: String,
        /// What the kernel said.
        #[source]
        source: ProgramError,
    },
    /// The clsact qdisc could not be made or looked at.
    #[error("interface {interface}: {source}")]
    Clsact {
        /// Its name.
        interface: String,
        /// What went wrong.
        #[source]
        source: ClsactError,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// The object has no such program.
    #[error(transparent)]
    Object(#[from] LoadError),
}

/// An interface that is watched in both directions, as long as this lives.
#[derive(Debug)]
pub enum Attachment {
    /// By tcx links.
    Tcx(SchedClassifierLink, SchedClassifierLink),
    /// By filters.
    Clsact(Filters),
}

const DIRECTIONS: [TcAttachType; 2] = [TcAttachType::Ingress, TcAttachType::Egress];

/// Attaches the watching program to both directions of an interface.
///
/// # Errors
/// [`AttachError`]; then neither direction is attached.
pub fn attach(
    ebpf: &mut Ebpf,
    namespace: &NetNs,
    interface: &str,
    hook: Hook,
) -> Result<Attachment, AttachError> {
    let program = program(ebpf, object::INTERFACE.watch)?;
    if hook != Hook::Clsact {
        match namespace.run(|| tcx(program, interface))? {
            Ok([ingress, egress]) => return Ok(Attachment::Tcx(ingress, egress)),
            Err(source) if hook == Hook::Tcx || !lacks_tcx(&source) => {
                return Err(AttachError::Refused {
                    interface: interface.into(),
                    source,
                });
            }
            Err(_) => {}
        }
    }
    match clsact::attach(program, namespace, interface)? {
        Ok(filters) => Ok(Attachment::Clsact(filters)),
        Err(source) => Err(AttachError::Clsact {
            interface: interface.into(),
            source,
        }),
    }
}

fn tcx(
    program: &mut SchedClassifier,
    interface: &str,
) -> Result<[SchedClassifierLink; 2], ProgramError> {
    let mut attach = |direction| {
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = program.attach_with_options(interface, direction, options)?;
        program.take_link(id)
    };
    let [ingress, egress] = DIRECTIONS;
    Ok([attach(ingress)?, attach(egress)?])
}

/// Whether the kernel does not know tcx: BPF_LINK_CREATE says EINVAL to an attach type that it does
/// not know.
fn lacks_tcx(error: &ProgramError) -> bool {
    match error {
        ProgramError::SyscallError(error) => {
            error.io_error.raw_os_error() == Some(nix::libc::EINVAL)
        }
        _ => false,
    }
}
