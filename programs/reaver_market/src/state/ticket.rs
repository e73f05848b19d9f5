use crate::quantities::{Key, Number, Shares, Time};

account! {
    /// Shares on their way out of a pool.
    Ticket, reserved 32 {
        position: Key,
        pool: Key,
        owner: Key,
        index: Number,
        /// Shares of the unbonding bucket.
        shares: Shares,
        unlock_at: Time,
        rent_payer: Key,
    }
}
