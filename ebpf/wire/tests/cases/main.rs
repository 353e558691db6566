//! What the wire crate makes of bytes that are known, in one program, since each is linked for itself. What must
//! hold of any bytes takes longer, and is tests/laws.rs.

mod abi;
mod bytes;
mod capture;
mod conversation;
mod event;
mod library;
mod machine;
mod overdue;
mod packet;
mod place;
mod play;
mod rules;
mod stories;
mod window;
