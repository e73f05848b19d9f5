//! What happened, in the past tense: from the events alone a reader recomputes every balance and every
//! reputation.

use crate::{
    quantities::{
        Bool, Bps, Count, Hash, Key, Millis, Number, Price, Reason, Shares, Stake, Time, Tokens,
    },
    state::{ClassId, Params},
};

events! {
    /// A market exists.
    MarketRegistered { market: Key, authority: Key, matcher: Key, meter: Key, fee_bps: Bps, fee_vault: Key }
    /// A market has new keys for what it does from now on.
    KeysRotated { market: Key, matcher: Key, meter: Key }
    /// A market announced another fee.
    FeeSet { market: Key, fee_bps: Bps, effective_at: Time }
    /// A market took what it earned.
    FeesWithdrawn { market: Key, authority: Key, destination: Key, amount: Tokens }
    /// The protocol took its part of a market's fees.
    ProtocolFeesSwept { market: Key, destination: Key, amount: Tokens }
    /// A class was made or changed.
    ClassSet { class_account: Key, class_id: ClassId, minimum_bond: Stake, enabled: Bool }
    /// A node exists, with its pool and bond.
    NodeRegistered { node: Key, operator: Key, node_key: Key, market: Key, class_id: ClassId, pool: Key, payout: Key, bond: Stake, shares: Shares }
    /// A node's market, class, payout account or status changed.
    NodeUpdated { node: Key, market: Key, class_id: ClassId, payout: Key, status: u8 }
    /// A wallet has a vault.
    VaultOpened { vault: Key, wallet: Key, token_account: Key }
    /// Tokens came into a vault.
    Deposited { vault: Key, wallet: Key, depositor: Key, amount: Tokens }
    /// Free tokens left a vault.
    Withdrawn { vault: Key, wallet: Key, destination: Key, amount: Tokens }
    /// A wallet allows a market to spend.
    AllowanceGranted { allowance: Key, wallet: Key, market: Key, escrow_cap: Tokens, day_cap: Tokens, total_cap: Tokens, max_price: Price, expires_at: Time }
    /// And no longer.
    AllowanceRevoked { allowance: Key, wallet: Key, market: Key }
    /// A deposit is locked under terms.
    EscrowOpened { escrow: Key, wallet: Key, opener: Key, market: Key, nonce: Number, class_id: ClassId, terms_hash: Hash, deposit: Tokens, ceiling_price: Price, max_time: Millis, attempts_allowed: Count, assign_by: Time }
    /// A deposit or its time grew.
    EscrowExtended { escrow: Key, added_deposit: Tokens, added_time: Millis, deposit: Tokens, max_time: Millis }
    /// A running escrow was cancelled: nothing after this moment is billed.
    EscrowStopping { escrow: Key, stop_at: Time }
    /// An attempt began.
    Assigned { escrow: Key, attempt: Count, node: Key, price: Price, fee_bps: Bps, protocol_bps: Bps, meter: Key, exposure: Tokens, assigned_at: Time }
    /// Money was paid: `amount` and `billed` are the attempt's, the other amounts this payment's.
    Settled { escrow: Key, attempt: Count, node: Key, countersigner: Key, sequence: Number, state: u8, reason: Reason, billed: Millis, amount: Tokens, paid: Tokens, operator: Tokens, stakers: Tokens, market: Tokens, protocol: Tokens, owed: Bool, refunded: Tokens, digest: Hash }
    /// One side ended an attempt.
    Released { escrow: Key, attempt: Count, node: Key, by: Key, reason: Reason, loss: Bool, reserve: Tokens, compensation: Stake, released_at: Time }
    /// A later voucher of a contested attempt was shown.
    Contested { escrow: Key, attempt: Count, node: Key, metered_at: Time, loss: Bool, reserve: Tokens, compensation: Stake }
    /// A contest is over, and what was lost is compensated.
    ContestClosed { escrow: Key, attempt: Count, node: Key, loss: Bool, released: Tokens, refunded: Bool, compensation: Stake, burned: Shares }
    /// An escrow is gone, or only waits for its contest.
    EscrowClosed { escrow: Key, wallet: Key, reason: Reason, paid: Tokens, refunded: Tokens, contested: Bool }
    /// A node's over-claim was proved.
    OverclaimProved { escrow: Key, attempt: Count, node: Key, at: Time, billed: Millis }
    /// Stake came into a pool.
    Delegated { pool: Key, position: Key, owner: Key, amount: Stake, shares: Shares }
    /// Shares left for the unbonding bucket.
    Unbonded { pool: Key, position: Key, owner: Key, ticket: Key, index: Number, shares: Shares, amount: Stake, unlock_at: Time }
    /// An unbonded stake was paid out.
    TicketWithdrawn { pool: Key, ticket: Key, owner: Key, shares: Shares, amount: Stake }
    /// Rewards were paid out.
    RewardsClaimed { pool: Key, position: Key, owner: Key, fees: Tokens, emission: Stake }
    /// An operator's own stake grew.
    Bonded { node: Key, pool: Key, operator: Key, amount: Stake, shares: Shares }
    /// Stake was taken: of the bond (bucket 0), the active (1) or the unbonding bucket (2).
    Slashed { node: Key, pool: Key, bucket: u8, reason: Reason, amount: Stake, burned: Shares }
    /// A commission will change.
    CommissionSet { pool: Key, commission_bps: Bps, effective_at: Time }
    /// A node's weight counts for an epoch.
    WeightRegistered { node: Key, epoch: Number, weight: Stake, total_weight: Shares }
    /// An epoch's emission is fixed.
    EpochClosed { epoch: Number, emission: Stake, total_weight: Shares }
    /// A pool drew its part of an epoch's emission.
    Distributed { pool: Key, epoch: Number, amount: Stake, commission: Stake }
    /// An epoch's account is gone: what it did not draw is free again.
    EpochEnded { epoch: Number, distributed: Stake, freed: Stake }
    /// A node and its pool are gone: what rounding left went to the emission and the market.
    NodeClosed { node: Key, operator: Key, pool: Key, stake_surplus: Stake, fee_surplus: Tokens }
    /// An operator took what was owed.
    OwedWithdrawn { node: Key, operator: Key, destination: Key, amount: Tokens }
    /// A renter took compensations.
    CompensationClaimed { vault: Key, wallet: Key, destination: Key, amount: Stake }
    /// The numbers of the deployment were set.
    ParamsSet { params: Params }
    /// Ways in were closed or opened.
    PauseSet { paused: u8 }
    /// Somebody else may take over the administration; zero: nobody.
    AdminProposed { admin: Key, candidate: Key }
    /// Somebody else administers.
    AdminChanged { previous: Key, admin: Key }
}

impl ParamsSet {
    /// The event in place: it is the parameters and nothing else.
    #[inline(always)]
    pub fn of(params: &Params) -> &Self {
        const { assert!(core::mem::size_of::<Self>() == core::mem::size_of::<Params>()) };
        // SAFETY: `repr(C)` of this one field, of which every bit pattern is valid.
        unsafe { &*core::ptr::from_ref(params).cast() }
    }
}
