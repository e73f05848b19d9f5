//! Reason codes that the program itself writes or tells apart (the whole table: api.md, section 10.2).

use crate::quantities::Reason;

/// The renter cancelled.
pub const CANCELLED: Reason = Reason::new(3);
/// The time limit was reached.
pub const TIMEOUT: Reason = Reason::new(4);
/// Nobody took it in time.
pub const QUEUE_EXPIRED: Reason = Reason::new(5);
/// The first reason that the matcher may release with.
pub const IMAGE_UNAVAILABLE: Reason = Reason::new(7);
/// The last reason that the matcher may release with.
pub const VERIFY_FAILED: Reason = Reason::new(10);
/// Released by the meter after silence.
pub const NODE_LOST: Reason = Reason::new(18);
/// The node gave up.
pub const NODE_QUIT: Reason = Reason::new(19);
/// An outside supplier's machine vanished; released by the meter like a lost node.
pub const MACHINE_VANISHED: Reason = Reason::new(31);
/// An over-claim was proved.
pub const OVERCLAIM: Reason = Reason::new(32);
/// The highest code that a voucher may carry.
pub const LAST: Reason = Reason::new(35);
