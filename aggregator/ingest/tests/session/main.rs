//! The session without a socket: every rule of the protocol that the listener keeps, and any bytes at all.

mod bytes_of;
mod hostile;
mod rules;
