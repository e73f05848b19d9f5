use crate::quantities::{Count, Key, Number, Shares, Stake};

/// Values of `Epoch.state`.
pub mod epoch_state {
    /// Weights are being registered.
    pub const REGISTERING: u8 = 0;
    /// Its emission is being distributed.
    pub const CLOSED: u8 = 1;
}

account! {
    /// One epoch's emission.
    Epoch, reserved 32 {
        index: Number,
        state: u8,
        emission: Stake,
        /// What of it has been distributed.
        distributed: Stake,
        total_weight: Shares,
        /// Nodes that registered a weight.
        registered: Count,
        /// Nodes that drew their part.
        served: Count,
        rent_payer: Key,
    }
}
