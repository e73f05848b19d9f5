//! The first seed of every derived address: one prefix per type, all later seeds of fixed length.

/// `config`
pub const CONFIG: &[u8] = b"config";
/// `compensation`: the deployment's token account for noted compensations.
pub const COMPENSATION: &[u8] = b"compensation";
/// `emission`: the deployment's token account that rewards are paid from.
pub const EMISSION: &[u8] = b"emission";
/// `market`, authority
pub const MARKET: &[u8] = b"market";
/// `market_fees`, market: its token account.
pub const MARKET_FEES: &[u8] = b"market_fees";
/// `class`, id
pub const CLASS: &[u8] = b"class";
/// `node`, node key
pub const NODE: &[u8] = b"node";
/// `pool`, node
pub const POOL: &[u8] = b"pool";
/// `pool_stake`, pool: its token account for stake.
pub const POOL_STAKE: &[u8] = b"pool_stake";
/// `pool_fees`, pool: its token account for fee rewards, and for what the operator is owed.
pub const POOL_FEES: &[u8] = b"pool_fees";
/// `position`, pool, owner
pub const POSITION: &[u8] = b"position";
/// `ticket`, position, index
pub const TICKET: &[u8] = b"ticket";
/// `vault`, wallet
pub const VAULT: &[u8] = b"vault";
/// `vault_tokens`, vault: its token account.
pub const VAULT_TOKENS: &[u8] = b"vault_tokens";
/// `allowance`, wallet, market
pub const ALLOWANCE: &[u8] = b"allowance";
/// `escrow`, wallet, opener, nonce
pub const ESCROW: &[u8] = b"escrow";
/// `epoch`, index
pub const EPOCH: &[u8] = b"epoch";
