//! Paying for an attempt: one transfer each to the operator, the stakers and the market.

use pinocchio::{cpi::Seed, AccountView, Address};

use super::{ending, usage::Accepted};
use crate::{
    checks::{self, require},
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

/// The program accounts of an instruction that pays.
pub struct States<'a> {
    /// The program that runs.
    pub program_id: &'a Address,
    /// Config.
    pub config: &'a AccountView,
    /// Market.
    pub market: &'a mut AccountView,
    /// Escrow.
    pub escrow: &'a mut AccountView,
    /// Vault.
    pub vault: &'a mut AccountView,
    /// Allowance, or the program's own address.
    pub allowance: &'a mut AccountView,
    /// Node.
    pub node: &'a mut AccountView,
    /// Pool.
    pub pool: &'a mut AccountView,
}

/// The token accounts of an instruction that pays.
pub struct Purses<'a> {
    /// The vault's.
    pub vault: &'a AccountView,
    /// The market's fee vault.
    pub market: &'a AccountView,
    /// The pool's fee vault.
    pub pool: &'a AccountView,
    /// The operator's payout account.
    pub payout: &'a AccountView,
}

/// The same accounts, loaded and known to belong together.
pub struct Books<'a> {
    /// Config.
    pub config: &'a Config,
    /// Market.
    pub market: &'a mut Market,
    /// Escrow.
    pub escrow: &'a mut Escrow,
    /// Vault.
    pub vault: &'a mut Vault,
    /// Allowance.
    pub allowance: Option<&'a mut Allowance>,
    /// Node.
    pub node: &'a mut Node,
    /// Pool.
    pub pool: &'a mut Pool,
}

impl States<'_> {
    /// Loads all accounts and checks their stored links.
    ///
    /// # Errors
    /// As `checks::load`, and `Wrong…` for each link.
    #[inline(never)]
    pub fn books(&mut self, purses: &Purses<'_>) -> Result<Books<'_>, MarketError> {
        let id = self.program_id;
        let (market_key, pool_key) = (Key::of(self.market), Key::of(self.pool));
        let books = Books {
            config: checks::load(self.config, id)?,
            market: checks::load_mut(self.market, id)?,
            escrow: checks::load_mut(self.escrow, id)?,
            vault: checks::load_mut(self.vault, id)?,
            allowance: checks::load_optional(self.allowance, id)?,
            node: checks::load_mut(self.node, id)?,
            pool: checks::load_mut(self.pool, id)?,
        };
        let escrow = &*books.escrow;
        require(escrow.market == market_key, MarketError::WrongMarket)?;
        require(books.vault.wallet == escrow.wallet, MarketError::WrongVault)?;
        require(books.node.pool == pool_key, MarketError::WrongPool)?;
        ending::check_allowance(escrow, books.allowance.as_deref())?;
        require(
            books.vault.token_account.is(purses.vault)
                && books.market.fee_vault.is(purses.market)
                && books.pool.fee_vault.is(purses.pool)
                && books.node.payout.is(purses.payout),
            MarketError::WrongTokenAccount,
        )?;
        Ok(books)
    }
}

/// A payment that is booked and still has to be transferred.
pub struct Payment {
    split: Split,
    paid: Tokens,
    owed: bool,
    wallet: Key,
    bump: u8,
    locked: Tokens,
}

/// Books a payment for an attempt: the vault's lock, the escrow, the node's exposure, the pool's rewards,
/// what the market and the protocol own of the fee vault.
///
/// # Errors
/// `MathOverflow`, `MathUnderflow`.
#[inline(never)]
pub fn book(
    books: &mut Books<'_>,
    accepted: &Accepted,
    payout: &AccountView,
    now: Time,
) -> Result<Payment, MarketError> {
    let paid = accepted.paying;
    let mut split = Split::of(accepted, books.config.params.node_share_bps)?;
    let taken = books.pool.book_fees(split.stakers, now)?;
    split.market = split.market.plus(split.stakers.minus(taken)?)?;
    split.stakers = taken;

    books.market.market_owed = books.market.market_owed.plus(split.market)?;
    books.market.protocol_owed = books.market.protocol_owed.plus(split.protocol)?;
    books.escrow.paid = books.escrow.paid.plus(paid)?;
    books.vault.locked = books.vault.locked.minus(paid)?;
    books.node.exposure = books.node.exposure.minus(paid)?;

    let owed = !split.operator.is_zero() && !can_take(payout, books.config, books.node);
    if owed {
        books.node.owed = books.node.owed.plus(split.operator)?;
    }
    Ok(Payment {
        split,
        paid,
        owed,
        wallet: books.vault.wallet,
        bump: books.vault.bump,
        locked: books.vault.locked,
    })
}

/// Whether the operator's account can take the tokens: there, of the payment mint, not frozen, and the
/// operator's (so never one of ours).
fn can_take(payout: &AccountView, config: &Config, node: &Node) -> bool {
    checks::token(payout)
        .is_ok_and(|token| token.mint == config.payment_mint && token.owner == node.operator)
}

impl Payment {
    /// Makes the transfers, and checks that exactly the payment has left the vault.
    ///
    /// # Errors
    /// `ConservationBroken`, or what the token program answers.
    #[inline(never)]
    pub fn transfer(
        &self,
        purses: &Purses<'_>,
        authority: &AccountView,
    ) -> Result<(), MarketError> {
        let before = checks::balance(purses.vault)?;
        let bump = [self.bump];
        let seeds = [
            Seed::from(seeds::VAULT),
            Seed::from(&self.wallet.0),
            Seed::from(&bump),
        ];
        let send = |to, amount: Tokens| {
            TokenTransfer {
                from: purses.vault,
                to,
                authority,
                amount: amount.get(),
            }
            .send(&seeds)
        };
        let mut to_pool = self.split.stakers;
        if self.owed {
            to_pool = to_pool.plus(self.split.operator)?;
        } else {
            send(purses.payout, self.split.operator)?;
        }
        send(purses.pool, to_pool)?;
        send(purses.market, self.split.market.plus(self.split.protocol)?)?;
        let after = checks::balance(purses.vault)?;
        require(
            before.minus(self.paid)? == after && self.locked <= after,
            MarketError::ConservationBroken,
        )?;
        Ok(())
    }

    /// Says what was paid.
    #[inline(never)]
    pub fn tell(&self, told: &Told<'_>) {
        Settled {
            escrow: told.escrow,
            attempt: told.attempt.number,
            node: told.attempt.node,
            countersigner: *told.countersigner,
            sequence: told.voucher.sequence,
            state: told.voucher.state,
            reason: told.voucher.reason,
            billed: told.attempt.billed,
            amount: told.attempt.amount,
            paid: self.paid,
            operator: self.split.operator,
            stakers: self.split.stakers,
            market: self.split.market,
            protocol: self.split.protocol,
            owed: Bool::new(self.owed),
            refunded: told.refunded,
            digest: told.voucher.digest,
        }
        .emit();
    }
}

/// What `Settled` tells beside the payment.
pub struct Told<'a> {
    /// The escrow's address.
    pub escrow: Key,
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
                countersigner: Key::ZERO,
                by_meter: true,
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
