//! The parsers of everything that a stranger chooses: arguments of each instruction, accounts' bytes, the
//! Ed25519 precompile's instruction. None may panic, and what they accept must be what the bytes say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reaver_market::{
    declare::{bytes_of, view_of},
    instructions,
    messages::{self, Claim, Voucher, VoucherArgs, MESSAGE_LEN},
    quantities::{Accumulator, Number, Shares},
    state::{self, Account, Allowance, Config, Escrow, NonceWindow, Params, Pool, Vault},
};

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind % 6 {
        0 => arguments(rest),
        1 => accounts(rest),
        2 => approval(rest),
        3 => signed(rest),
        4 => nonces(rest),
        _ => parameters(rest),
    }
});

/// Arguments are accepted at their exact length only, and read as the bytes they are.
fn arguments(data: &[u8]) {
    macro_rules! each {
        ($($actor:ident::$name:ident),+ $(,)?) => {$(
            if let Ok(args) = instructions::$actor::$name::Args::parse(data) {
                assert_eq!(bytes_of(args), data);
            } else {
                assert_ne!(core::mem::size_of::<instructions::$actor::$name::Args>(), data.len());
            }
        )+};
    }
    each!(
        settlement::settle,
        settlement::assign,
        settlement::open_escrow,
        settlement::release_node,
        settlement::quit,
        settlement::contest,
        settlement::extend_escrow,
        settlement::prove_overclaim,
        renter::deposit,
        renter::withdraw,
        renter::grant_allowance,
        operator::register_node,
        operator::bond,
        operator::update_node,
        operator::unbond_bond,
        operator::set_commission,
        operator::drain,
        delegator::delegate,
        delegator::unbond,
        crank::register_weight,
        crank::close_epoch,
        market::register_market,
        market::rotate_keys,
        market::set_fee,
        market::suspend_node,
        admin::initialize,
        admin::set_class,
        admin::set_params,
        admin::set_pause,
        admin::propose_admin,
    );
}

/// A type's check accepts exactly its own discriminator, length and version.
fn accounts(data: &[u8]) {
    fn one<T: Account>(data: &[u8]) {
        let accepted = state::check(data, T::HEAD.0, T::HEAD.1).is_ok();
        let right =
            data.len() == T::LEN && data[..8] == T::DISCRIMINATOR && data[8] == state::VERSION;
        assert_eq!(accepted, right);
    }
    one::<Config>(data);
    one::<Pool>(data);
    one::<Vault>(data);
    one::<Allowance>(data);
    one::<Escrow>(data);
}

/// An approval is accepted only for the whole message that stands in the instruction, by a key that does.
fn approval(data: &[u8]) {
    let Some((message, instruction)) = data.split_first_chunk::<MESSAGE_LEN>() else {
        return;
    };
    if let Ok(key) = messages::approved_key(instruction, message) {
        assert_eq!(key.len(), 32);
        assert_eq!(instruction[0], 1);
        assert!(instruction.windows(MESSAGE_LEN).any(|part| part == message));
        assert!(instruction.windows(32).any(|part| part == key));
    }
}

/// Every field is part of what is signed, and the domains are apart.
fn signed(data: &[u8]) {
    let (claim, voucher) = (view_of::<Claim>(data), view_of::<Voucher>(data));
    if let Some(claim) = claim {
        let message = claim.message();
        assert!(message.starts_with(messages::CLAIM_DOMAIN));
        let mut other = data.to_vec();
        other[data.len() / 2] ^= 1;
        assert!(view_of::<Claim>(&other).is_some_and(|other| other.message() != message));
    }
    if let Some(voucher) = voucher {
        assert!(voucher.message().starts_with(messages::VOUCHER_DOMAIN));
    }
    if let Some(args) = view_of::<VoucherArgs>(data) {
        assert_eq!(bytes_of(args), data);
    }
}

/// A nonce is taken once, whatever the window holds.
fn nonces(data: &[u8]) {
    let length = core::mem::size_of::<NonceWindow>();
    let Some((window, steps)) = data.split_at_checked(length) else {
        return;
    };
    let Some(window) = view_of::<NonceWindow>(window) else {
        return;
    };
    let mut window = *window;
    for step in steps.chunks_exact(8) {
        let nonce = Number::new(u64::from_le_bytes(step.try_into().expect("eight bytes")));
        if window.take(nonce).is_ok() {
            assert!(window.take(nonce).is_err());
        }
    }
}

/// Parameters and share arithmetic answer for all bytes.
fn parameters(data: &[u8]) {
    if let Some((params, rest)) = data.split_at_checked(core::mem::size_of::<Params>()) {
        if let (Some(params), Some(length)) = (view_of::<Params>(params), rest.first_chunk::<8>()) {
            let length = reaver_market::quantities::Millis::new(u64::from_le_bytes(*length));
            let _ = params.require_bounds(length);
        }
    }
    if let Some((shares, rest)) = data.split_first_chunk::<16>() {
        if let Some(growth) = rest.first_chunk::<16>() {
            let (shares, growth) = (u128::from_le_bytes(*shares), u128::from_le_bytes(*growth));
            let _ =
                reaver_market::math::earned_floor(&Shares::new(shares), &Accumulator::new(growth));
        }
    }
}
