//! Specification
//! Signs: the market's authority.
//! Changes: pays the recorded number to any account the authority names.
//! Refuses: when nothing is owed. Never paused.

use pinocchio::{AccountView, Address};

use super::rotate_keys::governed;
use crate::{
    checks::{self, require},
    cpi::Purse,
    errors::MarketError,
    events,
    quantities::{Key, Tokens},
    seeds,
    state::Market,
    Ctx,
};

instruction! {
    /// Pays out what a market has earned.
    withdraw_fees {
        accounts {
            authority: [signer],
            market: [writable],
            market_fees: [writable],
            destination: [writable],
            token_program: TokenProgram [],
        }
        args {
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    Args::parse(ctx.data)?;
    let a = Accounts::parse(ctx.program_id, ctx.accounts)?;
    governed(a.market, a.authority, ctx.program_id)?;
    let payout = Payout {
        program_id: ctx.program_id,
        market: a.market,
        fees: a.market_fees,
        destination: a.destination,
    };
    let amount = payout.pay(Owed::ToMarket)?;
    events::FeesWithdrawn {
        market: Key::of(a.market),
        authority: Key::of(a.authority),
        destination: Key::of(a.destination),
        amount,
    }
    .emit();
    Ok(())
}

/// Whose part of the fee vault.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// The market's.
    ToMarket,
    /// The protocol's.
    ToProtocol,
}

/// A payment out of a market's fee vault.
pub struct Payout<'a> {
    /// The program that runs.
    pub program_id: &'a Address,
    /// The market.
    pub market: &'a mut AccountView,
    /// Its fee vault.
    pub fees: &'a AccountView,
    /// Who is paid.
    pub destination: &'a AccountView,
}

impl Payout<'_> {
    /// Pays one part of what the market records, and checks that the other is still there.
    ///
    /// # Errors
    /// `WrongTokenAccount`, `DuplicateAccount`, `NothingOwed`, `ConservationBroken`, or what the token
    /// program answers.
    #[inline(never)]
    pub fn pay(self, owed: Owed) -> Result<Tokens, MarketError> {
        let market: &mut Market = checks::load_mut(self.market, self.program_id)?;
        require(
            market.fee_vault.is(self.fees),
            MarketError::WrongTokenAccount,
        )?;
        let place = match owed {
            Owed::ToMarket => &mut market.market_owed,
            Owed::ToProtocol => &mut market.protocol_owed,
        };
        let amount = *place;
        require(!amount.is_zero(), MarketError::NothingOwed)?;
        *place = Tokens::ZERO;
        let rest = market.market_owed.plus(market.protocol_owed)?;
        let (authority, bump) = (market.authority, market.bump);
        Purse {
            account: self.fees,
            authority: self.market,
            seeds: (seeds::MARKET, &authority.0, bump),
        }
        .pay(self.destination, amount.get(), rest.get())?;
        Ok(amount)
    }
}
