//! Specification
//!
//! Signs: the market's matcher of the moment; the node by its claim (Ed25519 instruction, or as submitter).
//! Changes: the escrow runs its next attempt, with the market's meter and fees of the moment copied into it;
//! the node's exposure grows by everything that is left of the deposit.
//! Refuses: a claim that is stale, from the future, or for other terms; a price above the ceiling or the
//! allowance's price; less time or deposit left than claimed; a node that is not active, of another market
//! or class, short of bond, past its slash cap, dead or overexposed; an escrow that is not open, cancelled,
//! late or out of attempts; an allowance that is revoked or expired; a pause.

use pinocchio::{AccountView, Address};

use crate::{
    checks::{self, require},
    declare::clear,
    errors::MarketError,
    events::Assigned,
    math,
    messages::{Approvals, Claim},
    quantities::{Bps, Count, Key, Millis, Price, Time, Tokens},
    settlement::ending,
    state::{
        escrow_state, node_status, pause, Allowance, Class, Config, Escrow, Market, Node, Pool,
        ANY_CLASS,
    },
    sysvars, Ctx,
};

instruction! {
    /// Starts an attempt on a node that has signed a claim.
    assign {
        accounts {
            matcher: [signer],
            config: Config [],
            market: Market [],
            escrow: Escrow [writable],
            allowance: Allowance [optional],
            node: Node [writable],
            pool: Pool [],
            class_account: Class [],
            instructions: [],
        }
        args {
            price: Price,
            time_left: Millis,
            deposit_left: Tokens,
            at: Time,
            claim_approval: u8,
        }
    }
}

struct Parties<'a> {
    config: &'a Config,
    market: &'a Market,
    market_key: Key,
    escrow: &'a mut Escrow,
    allowance: Option<&'a Allowance>,
    node: &'a mut Node,
    node_address: Key,
    pool: &'a Pool,
    class: &'a Class,
    now: Time,
}

impl Parties<'_> {
    fn check_escrow(&self, args: &Args) -> Result<(), MarketError> {
        let escrow = &*self.escrow;
        require(escrow.market == self.market_key, MarketError::WrongMarket)?;
        match escrow.state {
            escrow_state::OPEN => {}
            escrow_state::CLOSING => return Err(MarketError::EscrowIsClosing),
            _ => return Err(MarketError::EscrowNotOpen),
        }
        require(!escrow.is_stopping(), MarketError::EscrowIsStopping)?;
        require(
            self.now <= escrow.assign_by,
            MarketError::AssignWindowPassed,
        )?;
        require(
            escrow.attempt.number < escrow.attempts_allowed,
            MarketError::AttemptsExhausted,
        )?;
        ending::check_allowance(escrow, self.allowance)?;
        if let Some(allowance) = self.allowance {
            allowance.require_live(self.now)?;
            require(
                args.price <= allowance.max_price,
                MarketError::PriceAboveAllowance,
            )?;
        }
        Ok(())
    }

    fn check_claim(&self, args: &Args, left: Tokens) -> Result<(), MarketError> {
        let params = &self.config.params;
        require(
            args.at <= self.now.after(params.skew)?,
            MarketError::ClaimFromFuture,
        )?;
        require(
            self.now <= args.at.after(params.claim_limit)?,
            MarketError::ClaimStale,
        )?;
        require(!args.price.is_zero(), MarketError::PriceZero)?;
        require(
            args.price <= self.escrow.ceiling_price,
            MarketError::PriceAboveCeiling,
        )?;
        require(
            self.escrow.time_left()? >= args.time_left,
            MarketError::TimeLeftTooShort,
        )?;
        require(!left.is_zero(), MarketError::NothingLeft)?;
        require(left >= args.deposit_left, MarketError::DepositLeftTooSmall)
    }

    fn check_node(&self, left: Tokens) -> Result<(), MarketError> {
        let (node, pool, params) = (&*self.node, self.pool, &self.config.params);
        require(
            node.status == node_status::ACTIVE,
            MarketError::NodeNotActive,
        )?;
        require(node.market == self.market_key, MarketError::NodeElsewhere)?;
        require(
            self.class.class_id == node.class_id,
            MarketError::WrongClass,
        )?;
        require(
            self.escrow.class_id == ANY_CLASS || self.escrow.class_id == node.class_id,
            MarketError::ClassMismatch,
        )?;
        require(self.class.enabled.get(), MarketError::ClassDisabled)?;
        require(!pool.active().is_dead(), MarketError::PoolDead)?;
        let bond = pool.bond()?;
        require(
            bond >= self.class.minimum_bond.plus(node.held)?,
            MarketError::BondTooSmall,
        )?;
        let compensated = node.compensated_in(self.config.epoch_at(self.now));
        require(
            compensated.is_zero()
                || !math::slash_room_floor(bond, compensated, params.slash_cap_bps)?.is_zero(),
            MarketError::SlashCapReached,
        )?;
        let limit = math::exposure_limit_floor(
            pool.active_stake,
            params.exposure_rate,
            params.exposure_multiple.get(),
        )
        .unwrap_or(Tokens::MAX); // beyond 64 bits: above everything
        require(
            node.exposure.plus(left)? <= limit,
            MarketError::ExposureExceeded,
        )
    }

    #[inline(never)]
    fn begin(&mut self, args: &Args, fee_bps: Bps, left: Tokens) -> Result<Count, MarketError> {
        let number = self.escrow.attempt.number.plus(Count::new(1))?;
        let attempt = &mut self.escrow.attempt;
        clear(attempt);
        attempt.number = number;
        attempt.node = self.node_address;
        attempt.price = args.price;
        attempt.meter = self.market.meter;
        attempt.protocol_bps = self.config.params.protocol_bps;
        attempt.fee_bps = fee_bps;
        attempt.assigned_at = self.now;
        attempt.last_at = self.now;
        attempt.metered_at = self.now;
        attempt.exposure = left;
        self.escrow.state = escrow_state::ASSIGNED;
        self.node.exposure.grow(left)?;
        self.node.attempts.grow(Count::new(1))?;
        Ok(number)
    }
}

struct Consent<'a> {
    program_id: &'a Address,
    instructions: &'a AccountView,
    matcher: Key,
    escrow: Key,
    fee_bps: Bps,
}

impl Consent<'_> {
    #[inline(never)]
    fn check(&self, parties: &Parties<'_>, args: &Args) -> Result<(), MarketError> {
        let message = Claim {
            program_id: Key(*self.program_id.as_array()),
            genesis_hash: parties.config.genesis_hash,
            escrow: self.escrow,
            attempt: parties.escrow.attempt.number.plus(Count::new(1))?,
            market: parties.market_key,
            node: parties.node_address,
            class_id: parties.node.class_id,
            price: args.price,
            time_left: args.time_left,
            deposit_left: args.deposit_left,
            terms_hash: parties.escrow.terms_hash,
            fee_bps: self.fee_bps,
            at: args.at,
        }
        .message();
        Approvals {
            submitter: self.matcher,
            instructions: self.instructions,
            message: &message,
        }
        .by(args.claim_approval, &parties.node.node_key)
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let a = Accounts::parse(id, ctx.accounts)?;
    let args = Args::parse(ctx.data)?;
    let now = sysvars::now()?;
    let (matcher, escrow_key, pool_key) = (Key::of(a.matcher), Key::of(a.escrow), Key::of(a.pool));
    let mut parties = Parties {
        config: checks::load(a.config, id)?,
        market_key: Key::of(a.market),
        market: checks::load(a.market, id)?,
        escrow: checks::load_mut(a.escrow, id)?,
        allowance: checks::load_if_present(a.allowance, id)?,
        node_address: Key::of(a.node),
        node: checks::load_mut(a.node, id)?,
        pool: checks::load(a.pool, id)?,
        class: checks::load(a.class_account, id)?,
        now,
    };
    require(
        !parties.config.is_paused(pause::ASSIGN),
        MarketError::Paused,
    )?;
    require(matcher == parties.market.matcher, MarketError::NotMatcher)?;
    require(parties.node.pool == pool_key, MarketError::WrongPool)?;
    parties.check_escrow(args)?;
    let left = parties.escrow.left()?;
    parties.check_claim(args, left)?;
    parties.check_node(left)?;
    let fee_bps = parties
        .market
        .total_fee_at(now, parties.config.params.protocol_bps)?;
    Consent {
        program_id: id,
        instructions: a.instructions,
        matcher,
        escrow: escrow_key,
        fee_bps,
    }
    .check(&parties, args)?;

    let number = parties.begin(args, fee_bps, left)?;
    Assigned {
        escrow: escrow_key,
        attempt: number,
        node: parties.node_address,
        price: args.price,
        fee_bps,
        protocol_bps: parties.config.params.protocol_bps,
        meter: parties.market.meter,
        exposure: left,
        assigned_at: now,
    }
    .emit();
    Ok(())
}
