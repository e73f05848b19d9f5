//! Specification
//! Signs: the operator (pays the rent) and the node's key.
//! Changes: makes node, pool, the operator's position and the pool's two token accounts; takes the bond.
//! Refuses: a bond below the class bond, a disabled class, a payout account that is not the operator's, a pause.

use pinocchio::{AccountView, Address};

use crate::{
    checks::{self, require},
    cpi::{Fresh, TokenTransfer},
    errors::MarketError,
    events, math,
    quantities::{Bool, Bps, Count, Key, Stake},
    seeds,
    state::{node_status, pause, Class, Config, Market, Node, Pool, Position},
    Ctx,
};

instruction! {
    /// Makes a node with its pool and bond.
    register_node {
        accounts {
            operator: [signer, writable],
            node_key: [signer],
            config: Config [],
            market: Market [],
            class_account: Class [],
            node: [writable],
            pool: [writable],
            position: [writable],
            pool_stake: [writable],
            pool_fees: [writable],
            payout: [],
            stake_source: [writable],
            payment_mint: [],
            stake_mint: [],
            token_program: TokenProgram [],
            system_program: SystemProgram [],
        }
        args {
            bond: Stake,
            commission_bps: Bps,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let program_id = ctx.program_id;
    let args = Args::parse(ctx.data)?;
    let mut a = Accounts::parse(program_id, ctx.accounts)?;
    let class_id = check(&a, args, program_id)?;
    let bumps = create(&mut a, program_id)?;

    let stake = Stake::new(
        TokenTransfer {
            from: a.stake_source,
            to: a.pool_stake,
            authority: a.operator,
            amount: args.bond.get(),
        }
        .receive()?
        .get(),
    );
    let operator = Key::of(a.operator);
    let (node_address, pool_address) = (Key::of(a.node), Key::of(a.pool));

    let pool: &mut Pool = checks::load_mut(a.pool, program_id)?;
    let shares = pool.active().shares_for_floor(stake)?;
    pool.node = node_address;
    pool.stake_vault = Key::of(a.pool_stake);
    pool.fee_vault = Key::of(a.pool_fees);
    pool.stake_vault_bump = bumps.stake;
    pool.fee_vault_bump = bumps.fees;
    pool.active_stake = stake;
    pool.active_shares = shares;
    pool.bond_shares = shares;
    pool.positions = Count::new(1);
    pool.commission_bps = args.commission_bps;

    let position: &mut Position = checks::load_mut(a.position, program_id)?;
    position.pool = pool_address;
    position.owner = operator;
    position.shares = shares;
    position.is_operator = Bool::YES;
    position.rent_payer = operator;

    let node: &mut Node = checks::load_mut(a.node, program_id)?;
    node.operator = operator;
    node.node_key = Key::of(a.node_key);
    node.market = Key::of(a.market);
    node.class_id = class_id;
    node.pool = pool_address;
    node.payout = Key::of(a.payout);
    node.status = node_status::ACTIVE;
    events::NodeRegistered {
        node: node_address,
        operator,
        node_key: node.node_key,
        market: node.market,
        class_id,
        pool: pool_address,
        payout: node.payout,
        bond: stake,
        shares,
    }
    .emit();
    Ok(())
}

/// Everything that can be refused before anything is made; the class's id.
#[inline(never)]
fn check(
    a: &Accounts<'_>,
    args: &Args,
    program_id: &Address,
) -> Result<crate::state::ClassId, MarketError> {
    let config: &Config = checks::load(a.config, program_id)?;
    require(!config.is_paused(pause::REGISTER), MarketError::Paused)?;
    require(
        config.payment_mint.is(a.payment_mint) && config.stake_mint.is(a.stake_mint),
        MarketError::WrongMint,
    )?;
    checks::load::<Market>(a.market, program_id)?;
    let class: &Class = checks::load(a.class_account, program_id)?;
    require(class.enabled.get(), MarketError::ClassDisabled)?;
    require(
        !args.bond.is_zero() && args.bond >= class.minimum_bond,
        MarketError::BondBelowClass,
    )?;
    require(
        u64::from(args.commission_bps.get()) <= math::BPS_ONE,
        MarketError::ParameterOutOfBounds,
    )?;
    let payout = checks::token(a.payout)?;
    require(payout.mint == config.payment_mint, MarketError::WrongMint)?;
    require(payout.owner.is(a.operator), MarketError::WrongTokenOwner)?;
    Ok(class.class_id)
}

/// Bumps of the pool's two token accounts.
struct Bumps {
    stake: u8,
    fees: u8,
}

/// Makes node, pool, the operator's position and the pool's two token accounts.
#[inline(never)]
fn create(a: &mut Accounts<'_>, program_id: &Address) -> Result<Bumps, MarketError> {
    let (operator, node_key) = (Key::of(a.operator), Key::of(a.node_key));
    let (node, pool) = (Key::of(a.node), Key::of(a.pool));
    // a function: a closure's seeds would have to outlive it
    fn at<'s>(seeds: &'s [&'s [u8]], payer: &'s AccountView, program_id: &'s Address) -> Fresh<'s> {
        Fresh {
            payer,
            program_id,
            seeds,
        }
    }
    let payer = &*a.operator;
    at(&[seeds::NODE, &node_key.0], payer, program_id).account::<Node>(a.node)?;
    at(&[seeds::POOL, &node.0], payer, program_id).account::<Pool>(a.pool)?;
    at(&[seeds::POSITION, &pool.0, &operator.0], payer, program_id)
        .account::<Position>(a.position)?;
    let owner = a.pool.address();
    let stake = at(&[seeds::POOL_STAKE, &pool.0], payer, program_id).token_account(
        a.pool_stake,
        a.stake_mint,
        owner,
    )?;
    let fees = at(&[seeds::POOL_FEES, &pool.0], payer, program_id).token_account(
        a.pool_fees,
        a.payment_mint,
        owner,
    )?;
    Ok(Bumps { stake, fees })
}
