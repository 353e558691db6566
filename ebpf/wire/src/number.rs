//! Inputs and outcomes as numbers. Between being read and being judged, and between being judged and being
//! acted upon, they wait in memory ([`crate::segment::Payload::settle`]): the kernel's verifier then
//! walks what follows once, and not once for every way that leads there.

use crate::Role;
use crate::handshake::Sealed;
use crate::rules::{Cause, Failure, Input, Outcome};
use crate::side::Stage;
use crate::walk::Walked;

impl Input {
    /// The input as a number above 1 and below 2^31: its kind in the lowest byte, then what comes with it.
    #[inline(always)]
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Foreign => 2,
            Self::Preamble => 3,
            Self::Chatter => 4,
            Self::Connect => 5,
            Self::Status(granted) => 6 | (granted as u32) << 8,
            Self::Tls => 7,
            Self::ClientHello => 8,
            Self::ClientHelloRead => 9,
            Self::HelloRetryRequest => 10,
            Self::ServerHello => 11,
            Self::Handshake => 12,
            Self::ChangeCipherSpec => 13,
            Self::Finished => 14,
            Self::Alert(level, description) => {
                15 | (level as u32) << 8 | (description as u32) << 16
            }
            Self::SealedAlert => 16,
            Self::Sealed(size, answers) => 17 | (size as u32) << 8 | (answers as u32) << 16,
            Self::Fin => 18,
            Self::Reset => 19,
            Self::Silence => 20,
        }
    }

    /// The input that has a number; [`Self::Silence`] for what is none.
    #[inline(always)]
    pub(crate) const fn from_number(number: u32) -> Self {
        let (first, second) = ((number >> 8) as u8, (number >> 16) as u8);
        match number as u8 {
            2 => Self::Foreign,
            3 => Self::Preamble,
            4 => Self::Chatter,
            5 => Self::Connect,
            6 => Self::Status(first != 0),
            7 => Self::Tls,
            8 => Self::ClientHello,
            9 => Self::ClientHelloRead,
            10 => Self::HelloRetryRequest,
            11 => Self::ServerHello,
            12 => Self::Handshake,
            13 => Self::ChangeCipherSpec,
            14 => Self::Finished,
            15 => Self::Alert(first, second),
            16 => Self::SealedAlert,
            17 => {
                let size = match first {
                    0 => Sealed::AlertSized,
                    1 => Sealed::FinishedSized,
                    _ => Sealed::Other,
                };
                Self::Sealed(size, second != 0)
            }
            18 => Self::Fin,
            19 => Self::Reset,
            _ => Self::Silence,
        }
    }
}

/// An [`Outcome`] as a number: its kind in the lowest byte, then what comes with it. Never 0 to 2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision(pub(crate) u32);

impl Decision {
    /// [`Outcome::Done`].
    pub(crate) const DONE: Self = Self(3);
    /// [`Outcome::Ignore`].
    pub(crate) const IGNORE: Self = Self(4);
    /// [`Outcome::Undecided`].
    pub(crate) const UNDECIDED: Self = Self(5);
    const FAILED: u32 = 6;
    const ON: u32 = 7;

    /// [`Outcome::On`].
    #[inline(always)]
    pub(crate) const fn on(stage: Stage) -> Self {
        Self(Self::ON | (stage.0 as u32) << 8)
    }

    /// The stage of an [`Outcome::On`].
    #[inline(always)]
    pub(crate) const fn stage(self) -> Option<Stage> {
        if self.0 & 0xff == Self::ON {
            Some(Stage((self.0 >> 8) as u8))
        } else {
            None
        }
    }

    /// [`Outcome::Failed`] by anything but a plaintext alert.
    #[inline(always)]
    pub(crate) const fn failed(cause: Cause, by: Role) -> Self {
        Self(Self::FAILED | (cause as u32) << 8 | (by as u32) << 12)
    }

    /// [`Outcome::Failed`] by a plaintext alert.
    #[inline(always)]
    pub(crate) const fn alert(by: Role, level: u8, description: u8, answers_hello: bool) -> Self {
        let Self(alert) = Self::failed(Cause::Alert, by);
        let answers = (answers_hello as u32) << 13;
        Self(alert | answers | (level as u32) << 16 | (description as u32) << 24)
    }

    /// The failure of an [`Outcome::Failed`].
    #[inline(always)]
    pub(crate) const fn failure(self) -> Failure {
        Failure {
            cause: Cause::of_number((self.0 >> 8) as u8 & 0x0f),
            by: Role::from_bit((self.0 >> 12) as u8),
            answers_hello: self.0 & 1 << 13 != 0,
            level: (self.0 >> 16) as u8,
            description: (self.0 >> 24) as u8,
        }
    }

    /// What it stands for.
    #[inline(always)]
    pub(crate) const fn outcome(self) -> Outcome {
        match self.0 & 0xff {
            3 => Outcome::Done,
            5 => Outcome::Undecided,
            Self::FAILED => Outcome::Failed(self.failure()),
            Self::ON => Outcome::On(Stage((self.0 >> 8) as u8)),
            _ => Outcome::Ignore,
        }
    }
}

/// How a walk ended, as a number: a [`Decision`] where the flow is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended(pub(crate) u32);

impl Ended {
    /// [`Walked::More`].
    pub(crate) const MORE: Self = Self(0);
    /// [`Walked::On`].
    pub(crate) const ON: Self = Self(1);
    /// [`Walked::Unreadable`].
    pub(crate) const UNREADABLE: Self = Self(2);

    /// What it stands for.
    #[inline(always)]
    pub(crate) const fn walked(self) -> Walked {
        match self {
            Self::MORE => Walked::More,
            Self::ON => Walked::On,
            Self::UNREADABLE => Walked::Unreadable,
            Self(number) => Walked::Over(Decision(number).outcome()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_survives_being_a_number() {
        let mut inputs = vec![
            Input::Foreign,
            Input::Preamble,
            Input::Chatter,
            Input::Connect,
            Input::Tls,
            Input::ClientHello,
            Input::ClientHelloRead,
            Input::HelloRetryRequest,
            Input::ServerHello,
            Input::Handshake,
            Input::ChangeCipherSpec,
            Input::Finished,
            Input::SealedAlert,
            Input::Fin,
            Input::Reset,
            Input::Silence,
        ];
        for flag in [false, true] {
            inputs.push(Input::Status(flag));
            for size in [Sealed::AlertSized, Sealed::FinishedSized, Sealed::Other] {
                inputs.push(Input::Sealed(size, flag));
            }
        }
        inputs.extend((0..=u8::MAX).map(|n| Input::Alert(n, !n)));
        for input in inputs {
            assert_eq!(Input::from_number(input.number()), input);
            assert!(input.number() > 1 && input.number() < 1 << 31);
        }
    }

    #[test]
    fn an_outcome_survives_being_a_number() {
        for (decision, outcome) in [
            (Decision::DONE, Outcome::Done),
            (Decision::IGNORE, Outcome::Ignore),
            (Decision::UNDECIDED, Outcome::Undecided),
        ] {
            assert_eq!(decision.outcome(), outcome);
            assert_eq!(Ended(decision.0).walked(), Walked::Over(outcome));
            assert_eq!(decision.stage(), None);
        }
        for stage in Stage::ALL {
            assert_eq!(Decision::on(stage).outcome(), Outcome::On(stage));
            assert_eq!(Decision::on(stage).stage(), Some(stage));
        }
        for (cause, by) in Cause::ALL
            .into_iter()
            .flat_map(|cause| Role::BOTH.map(|by| (cause, by)))
        {
            let failure = Failure {
                cause,
                by,
                level: 0,
                description: 0,
                answers_hello: false,
            };
            let decision = Decision::failed(cause, by);
            assert_eq!(decision.outcome(), Outcome::Failed(failure));
            assert_eq!(
                Ended(decision.0).walked(),
                Walked::Over(Outcome::Failed(failure))
            );
            assert_eq!(decision.stage(), None);
            if cause == Cause::Alert {
                let failure = Failure {
                    level: 2,
                    description: 255,
                    answers_hello: true,
                    ..failure
                };
                let decision = Decision::alert(by, 2, 255, true);
                assert_eq!(decision.outcome(), Outcome::Failed(failure));
            }
        }
    }
}
