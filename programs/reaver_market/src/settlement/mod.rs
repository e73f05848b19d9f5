//! What the settlement instructions share: checking vouchers, splitting and paying, ending attempts.

pub mod ending;
pub mod payment;
pub mod shown;
pub mod usage;
