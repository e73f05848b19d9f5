//! What the staking instructions share: stake coming in, leaving, and being paid out.

use pinocchio::{AccountView, Address};

use crate::{
    checks::{self, require},
    cpi::{self, Fresh, Purse, TokenTransfer},
    errors::MarketError,
    events::Unbonded,
    quantities::{Count, Key, Number, Shares, Stake},
    seeds,
    state::{Config, Pool, Position, Ticket},
    sysvars,
};

/// Stake on its way into a pool.
pub struct Incoming<'a> {
    /// Who pays.
    pub authority: &'a AccountView,
    /// From where.
    pub source: &'a AccountView,
    /// The pool's stake vault.
    pub pool_stake: &'a AccountView,
    /// How much.
    pub amount: Stake,
}

impl Incoming<'_> {
    /// Moves the tokens and books them as shares of the position. Returns the shares.
    ///
    /// # Errors
    /// `AmountZero`, `WrongTokenAccount`, `DuplicateAccount`, `PoolDead`, or what the token program answers.
    #[inline(never)]
    pub fn join(&self, pool: &mut Pool, position: &mut Position) -> Result<Shares, MarketError> {
        require(!self.amount.is_zero(), MarketError::AmountZero)?;
        require(
            pool.stake_vault.is(self.pool_stake),
            MarketError::WrongTokenAccount,
        )?;
        require(
            !checks::same(
                self.source.address().as_array(),
                self.pool_stake.address().as_array(),
            ),
            MarketError::DuplicateAccount,
        )?;
        require(!pool.active().is_dead(), MarketError::PoolDead)?;
        let credit = TokenTransfer {
            from: self.source,
            to: self.pool_stake,
            authority: self.authority,
            amount: self.amount.get(),
        }
        .receive()?;
        pool.join(position, Stake::new(credit.get()))
    }
}

/// Shares on their way out of a pool.
pub struct Outgoing<'a> {
    /// The program that runs.
    pub program_id: &'a Address,
    /// The owner of the position, who pays the ticket's rent.
    pub owner: &'a AccountView,
    /// Config.
    pub config: &'a Config,
    /// The pool's address.
    pub pool: Key,
    /// The position's address.
    pub position: Key,
    /// How many.
    pub shares: Shares,
}

impl Outgoing<'_> {
    /// Moves the shares into the unbonding bucket, makes their ticket, and says so.
    ///
    /// # Errors
    /// `AmountZero`, `SharesInsufficient`, `WrongAddress`, `AlreadyInitialized`.
    #[inline(never)]
    pub fn leave(
        &self,
        pool: &mut Pool,
        position: &mut Position,
        ticket: &mut AccountView,
    ) -> Result<(), MarketError> {
        let left = pool.leave(position, &self.shares)?;
        let unlock_at = sysvars::now()?.after(self.config.params.unbonding)?;
        let index = position.next_ticket;
        position.next_ticket = index.plus(Number::new(1))?;
        position.tickets.grow(Count::new(1))?;
        let (address, owner) = (Key::of(ticket), position.owner);
        let made: &mut Ticket = Fresh {
            payer: self.owner,
            program_id: self.program_id,
            seeds: &[seeds::TICKET, &self.position.0, &index.get().to_le_bytes()],
        }
        .account(ticket)?;
        made.position = self.position;
        made.pool = self.pool;
        made.owner = owner;
        made.index = index;
        made.shares = left.shares;
        made.unlock_at = unlock_at;
        made.rent_payer = Key::of(self.owner);
        Unbonded {
            pool: self.pool,
            position: self.position,
            owner,
            ticket: address,
            index,
            shares: self.shares,
            amount: left.stake,
            unlock_at,
        }
        .emit();
        Ok(())
    }
}

/// One of a pool's two token accounts, to be paid from.
pub struct PoolVault<'a> {
    /// The token account.
    pub account: &'a AccountView,
    /// The pool, which may spend from it.
    pub pool: &'a AccountView,
    /// The pool's node.
    pub node: &'a Key,
    /// The pool's bump.
    pub bump: u8,
}

impl PoolVault<'_> {
    #[inline(always)]
    fn purse(&self) -> Purse<'_> {
        Purse {
            account: self.account,
            authority: self.pool,
            seeds: (seeds::POOL, &self.node.0, self.bump),
        }
    }

    /// As `Purse::pay`.
    ///
    /// # Errors
    /// As `Purse::pay`.
    #[inline(always)]
    pub fn pay(&self, to: &AccountView, amount: u64, recorded: u64) -> Result<(), MarketError> {
        self.purse().pay(to, amount, recorded)
    }

    /// As `Purse::close`.
    ///
    /// # Errors
    /// As `Purse::close`.
    #[inline(always)]
    pub fn close(&self, to: &AccountView) -> Result<(), MarketError> {
        self.purse().close(to)
    }
}

/// Closes a delegator's position of which nothing is left; its rent goes back to who paid it.
///
/// # Errors
/// `WrongRentPayer`; the pool's as `checks::load_mut`.
#[inline(never)]
pub fn close_if_empty(
    view: &mut AccountView,
    pool: &mut AccountView,
    program_id: &Address,
    rent_payer: &mut AccountView,
) -> Result<(), MarketError> {
    let position: &Position = checks::load(view, program_id)?;
    if position.is_operator.get() || !position.is_empty() {
        return Ok(());
    }
    require(
        position.rent_payer.is(rent_payer),
        MarketError::WrongRentPayer,
    )?;
    let pool: &mut Pool = checks::load_mut(pool, program_id)?;
    pool.positions.shrink(Count::new(1))?;
    cpi::close(view, rent_payer)
}
