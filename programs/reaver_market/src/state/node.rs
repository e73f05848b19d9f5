use super::ClassId;
use crate::{
    declare::clear,
    events::NodeUpdated,
    quantities::{Bool, Count, Key, Number, Stake, Tokens},
};

/// Values of `Node.status`.
pub mod node_status {
    /// Takes work.
    pub const ACTIVE: u8 = 0;
    /// Finishes what it has.
    pub const DRAINING: u8 = 1;
    /// Its market gives it no work.
    pub const SUSPENDED: u8 = 2;
    /// Gone.
    pub const RETIRED: u8 = 3;
}

record! {
    /// What a node did in one epoch.
    EpochSlot {
        epoch: Number,
        /// Meter-countersigned amounts of attempts that ended well.
        well: Tokens,
        /// The same of attempts that were lost.
        lost: Tokens,
        /// Protocol fees of both.
        protocol_fees: Tokens,
        /// Compensations taken from the operator's bond.
        compensated: Stake,
        /// Over-claim slashes of the active bucket.
        slashed_active: Stake,
        /// Over-claim slashes of the unbonding bucket.
        slashed_unbonding: Stake,
        /// The weight that was registered for the epoch's emission.
        weight: Stake,
        registered: Bool,
        distributed: Bool,
    }
}

account! {
    /// A machine and its record.
    Node, reserved 96 {
        operator: Key,
        /// Signs claims and vouchers.
        node_key: Key,
        market: Key,
        class_id: ClassId,
        pool: Key,
        /// The operator's payment token account.
        payout: Key,
        status: u8,
        /// In the pool's fee vault, the operator's: what the payout account couldn't take.
        owed: Tokens,
        /// Running or contested.
        attempts: Count,
        /// What running attempts and contest reserves may still cost, in payment units.
        exposure: Tokens,
        /// Noted compensations, in stake units.
        held: Stake,
        attempts_well: Number,
        attempts_lost: Number,
        attempts_quit: Number,
        amount_well: Tokens,
        amount_lost: Tokens,
        amount_quit: Tokens,
        /// The last three epochs, at epoch mod 3.
        epochs: [EpochSlot; 3],
    }
}

impl Node {
    /// The slot of an epoch, emptied when it still holds an older one.
    #[inline(never)]
    pub fn slot_mut(&mut self, epoch: Number) -> &mut EpochSlot {
        let slot = &mut self.epochs[(epoch.get() % 3) as usize];
        if slot.epoch != epoch {
            clear(slot);
            slot.epoch = epoch;
        }
        slot
    }

    /// What was compensated in an epoch so far.
    #[inline(never)]
    #[must_use]
    pub fn compensated_in(&self, epoch: Number) -> Stake {
        let slot = &self.epochs[(epoch.get() % 3) as usize];
        if slot.epoch == epoch {
            slot.compensated
        } else {
            Stake::ZERO
        }
    }

    /// Says what the node is now.
    #[inline(never)]
    pub fn tell(&self, address: Key) {
        NodeUpdated {
            node: address,
            market: self.market,
            class_id: self.class_id,
            payout: self.payout,
            status: self.status,
        }
        .emit();
    }
}
