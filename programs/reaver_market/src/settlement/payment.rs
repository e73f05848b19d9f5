//! Paying for an attempt: one transfer each to the operator, the stakers and the market.

use pinocchio::{cpi::Seed, AccountView, Address};

use super::{ending, usage::Accepted};
use crate::{
    checks::{self, account_type, flag, require, Declared, Typed, Writable, WritableOptional},
    cpi::TokenTransfer,
    errors::MarketError,
    events::Settled,
    math,
    messages::VoucherArgs,
    quantities::{Bool, Bps, Key, Time, Tokens},
    seeds,
    state::{Allowance, Attempt, Config, Escrow, Market, Node, Pool, Vault},
};

/// How one payment is divided.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
pub struct Split {
    /// The operator's.
    pub operator: Tokens,
    /// The pool's, commission included.
    pub stakers: Tokens,
    /// The market's.
    pub market: Tokens,
    /// The protocol's.
    pub protocol: Tokens,
}

impl Split {
    /// Divides what an attempt's amount grew by. Fees are differences of cumulative fees, so that many
    /// small payments cost what one large one does. The protocol's part is never rebated: where
    /// rounding would take a unit back from the market, the operator bears it.
    ///
    /// # Errors
    /// `MathOverflow`.
    pub fn of(accepted: &Accepted, node_share: Bps) -> Result<Self, MarketError> {
        let (before, after) = (accepted.before, accepted.after);
        let grown = |bps| math::fee_ceil(after, bps)?.minus(math::fee_ceil(before, bps)?);
        let protocol: Tokens = grown(accepted.protocol_bps)?;
        let fees = grown(accepted.fee_bps)?.minus_at_most(protocol);
        let stakers = math::share_floor(fees, node_share)?;
        let operator = after.minus(before)?.minus(protocol)?.minus(fees)?;
        Ok(Self {
            operator,
            stakers,
            market: fees.minus(stakers)?,
            protocol,
        })
    }
}

/// The accounts that every paying instruction begins with.
#[repr(C)]
pub struct Front {
    /// Who signs the transaction for this instruction.
    pub submitter: AccountView,
    /// Config.
    pub config: Typed<Config, 0>,
    /// Market.
    pub market: Writable<Market>,
    /// The market's fee vault.
    pub market_fees: AccountView,
    /// Escrow.
    pub escrow: Writable<Escrow>,
    /// Vault.
    pub vault: Writable<Vault>,
    /// The vault's token account.
    pub vault_tokens: AccountView,
    /// The allowance it was opened under, or none.
    pub allowance: WritableOptional<Allowance>,
    /// Node.
    pub node: Writable<Node>,
    /// Pool.
    pub pool: Writable<Pool>,
    /// The pool's fee vault.
    pub pool_fees: AccountView,
    /// The operator's payout account.
    pub payout: AccountView,
}

/// How many accounts `Front` has.
pub const FRONT: usize = 12;
const _: () = assert!(core::mem::size_of::<Front>() == FRONT * core::mem::size_of::<AccountView>());

/// Whether an instruction declares `Front` as its first accounts.
#[must_use]
pub const fn begins_with_front(declared: &Declared) -> bool {
    const WRITABLE: u8 = flag::writable;
    const fn typed(kind: u8, flags: u8) -> u8 {
        kind << flag::BITS | flags
    }
    const FLAGS: [u8; FRONT] = [
        flag::signer,
        typed(account_type::Config, 0),
        typed(account_type::Market, WRITABLE),
        WRITABLE,
        typed(account_type::Escrow, WRITABLE),
        typed(account_type::Vault, WRITABLE),
        WRITABLE,
        typed(account_type::Allowance, WRITABLE | flag::optional),
        typed(account_type::Node, WRITABLE),
        typed(account_type::Pool, WRITABLE),
        WRITABLE,
        WRITABLE,
    ];
    let mut at = 0;
    while at < FRONT {
        if declared.account(at) != FLAGS[at] {
            return false;
        }
        at += 1;
    }
    true
}

impl Front {
    /// Checks that the accounts belong together, by their stored links.
    ///
    /// # Errors
    /// `Wrong…` for each link.
    #[inline(never)]
    pub fn check(&mut self, program_id: &Address) -> Result<(), MarketError> {
        let allowance = self.allowance.get_optional_mut(program_id);
        let escrow = self.escrow.get();
        let (market, vault, node, pool) = (
            self.market.get(),
            self.vault.get(),
            self.node.get(),
            self.pool.get(),
        );
        require(escrow.market.is(&self.market), MarketError::WrongMarket)?;
        require(vault.wallet == escrow.wallet, MarketError::WrongVault)?;
        require(node.pool.is(&self.pool), MarketError::WrongPool)?;
        ending::check_allowance(escrow, allowance.as_deref())?;
        require(
            vault.token_account.is(&self.vault_tokens)
                && market.fee_vault.is(&self.market_fees)
                && pool.fee_vault.is(&self.pool_fees)
                && node.payout.is(&self.payout),
            MarketError::WrongTokenAccount,
        )
    }
}

/// A payment that is booked and still has to be transferred.
pub struct Payment {
    split: Split,
    paid: Tokens,
    owed: bool,
}

impl Payment {
    /// No payment.
    pub const NONE: Self = Self {
        split: Split {
            operator: Tokens::ZERO,
            stakers: Tokens::ZERO,
            market: Tokens::ZERO,
            protocol: Tokens::ZERO,
        },
        paid: Tokens::ZERO,
        owed: false,
    };

    /// Books a payment for an attempt: the vault's lock, the escrow, the node's exposure, the pool's
    /// rewards, what the market and the protocol own of the fee vault.
    ///
    /// # Errors
    /// `MathOverflow`, `MathUnderflow`.
    #[inline(never)]
    pub fn book(
        &mut self,
        front: &mut Front,
        accepted: &Accepted,
        now: Time,
    ) -> Result<(), MarketError> {
        let paid = accepted.paying;
        let split = &mut self.split;
        *split = Split::of(accepted, front.config.get().params.node_share_bps)?;
        let taken = front.pool.get_mut().book_fees(split.stakers, now)?;
        split.market.grow(split.stakers.minus(taken)?)?;
        split.stakers = taken;

        let market = front.market.get_mut();
        market.market_owed.grow(split.market)?;
        market.protocol_owed.grow(split.protocol)?;
        front.escrow.get_mut().paid.grow(paid)?;
        front.vault.get_mut().locked.shrink(paid)?;
        front.node.get_mut().exposure.shrink(paid)?;

        self.paid = paid;
        self.owed = !split.operator.is_zero() && !can_take(front);
        if self.owed {
            front.node.get_mut().owed.grow(split.operator)?;
        }
        Ok(())
    }
}

/// Whether the operator's account can take the tokens: there, of the payment mint, not frozen, and the
/// operator's (so never one of ours).
fn can_take(front: &Front) -> bool {
    checks::token(&front.payout).is_ok_and(|token| {
        token.mint == front.config.get().payment_mint && token.owner == front.node.get().operator
    })
}

impl Payment {
    /// Makes the transfers, and checks that exactly the payment has left the vault.
    ///
    /// # Errors
    /// `ConservationBroken`, or what the token program answers.
    #[inline(never)]
    pub fn transfer(&self, front: &Front) -> Result<(), MarketError> {
        let purse = &front.vault_tokens;
        let before = checks::balance(purse)?;
        let wallet = front.vault.get().wallet;
        let bump = [front.vault.get().bump];
        let seeds = [
            Seed::from(seeds::VAULT),
            Seed::from(&wallet.0),
            Seed::from(&bump),
        ];
        let send = |to, amount: Tokens| {
            TokenTransfer {
                from: purse,
                to,
                authority: &front.vault,
                amount: amount.get(),
            }
            .send(&seeds)
        };
        let mut to_pool = self.split.stakers;
        if self.owed {
            to_pool.grow(self.split.operator)?;
        } else {
            send(&front.payout, self.split.operator)?;
        }
        send(&front.pool_fees, to_pool)?;
        send(
            &front.market_fees,
            self.split.market.plus(self.split.protocol)?,
        )?;
        let after = checks::balance(purse)?;
        require(
            before.minus(self.paid)? == after && front.vault.get().locked <= after,
            MarketError::ConservationBroken,
        )
    }

    /// Says what was paid.
    #[inline(never)]
    pub fn tell(&self, told: &Told<'_>) {
        let (attempt, voucher) = (told.attempt, told.voucher);
        Settled {
            escrow: *told.escrow,
            attempt: attempt.number,
            node: attempt.node,
            countersigner: *told.countersigner,
            sequence: voucher.sequence,
            state: voucher.state,
            reason: voucher.reason,
            billed: attempt.billed,
            amount: attempt.amount,
            paid: self.paid,
            operator: self.split.operator,
            stakers: self.split.stakers,
            market: self.split.market,
            protocol: self.split.protocol,
            owed: Bool::new(self.owed),
            refunded: told.refunded,
            digest: voucher.digest,
        }
        .emit();
    }
}

/// What `Settled` tells beside the payment.
pub struct Told<'a> {
    /// The escrow's address.
    pub escrow: &'a Key,
    /// The attempt, after the payment.
    pub attempt: &'a Attempt,
    /// The voucher.
    pub voucher: &'a VoucherArgs,
    /// Who countersigned.
    pub countersigner: &'a Key,
    /// What was unlocked at the same time.
    pub refunded: Tokens,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn every_payment_is_divided_without_rest(
            steps in proptest::collection::vec(0u64..5_000, 1..40),
            protocol in 0u16..1_000,
            market in 0u16..9_000,
            share in 0u16..=10_000,
        ) {
            let mut accepted = Accepted {
                before: Tokens::ZERO,
                after: Tokens::ZERO,
                paying: Tokens::ZERO,
                protocol_bps: Bps::new(protocol),
                fee_bps: Bps::new(protocol + market),
            };
            let mut protocol_paid = 0;
            let mut fees_paid = 0;
            for step in &steps {
                accepted.before = accepted.after;
                accepted.after = Tokens::new(accepted.before.get() + step);
                let s = Split::of(&accepted, Bps::new(share)).unwrap();
                prop_assert_eq!(s.operator.get() + s.stakers.get() + s.market.get() + s.protocol.get(), *step);
                protocol_paid += s.protocol.get();
                fees_paid += s.stakers.get() + s.market.get();
            }
            // the protocol's part is exactly that of one payment; the market's at most a unit per step above
            prop_assert_eq!(protocol_paid, math::fee_ceil(accepted.after, accepted.protocol_bps).unwrap().get());
            let once = math::fee_ceil(accepted.after, accepted.fee_bps).unwrap().get() - protocol_paid;
            prop_assert!(fees_paid >= once && fees_paid <= once + steps.len() as u64);
        }
    }
}
