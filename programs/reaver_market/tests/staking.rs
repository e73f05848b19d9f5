//! The staking vectors that the Python side is tested with (`tests/golden/staking.json`), held against the
//! program's own arithmetic.

use std::{fmt::Debug, fs, path::Path, str::FromStr};

use reaver_market::{
    errors::MarketError,
    math::{
        accrue, earned_floor, mul_div_floor, share_floor, slash_room_floor, stake_of_tokens_floor,
        stake_part_floor, weighted_floor, Bucket,
    },
    quantities::{Accumulator, Bps, Rate, Shares, Stake, Tokens},
    state::{self, Account, Config},
};
use serde_json::Value;

fn vectors(kind: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/staking.json");
    let text = fs::read_to_string(path).expect("the vectors are there");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let found = all[kind].as_array().expect("a list").clone();
    assert!(!found.is_empty(), "{kind} holds no vector");
    found
}

fn number<T: FromStr>(vector: &Value, name: &str) -> T {
    vector[name]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{name} of {vector} is out of range"))
}

/// The same number, or a refusal where the vector says null.
fn same<T: FromStr + PartialEq + Debug>(found: Result<T, MarketError>, vector: &Value, name: &str) {
    if vector[name].is_null() {
        assert!(found.is_err(), "{name} of {vector}");
    } else {
        assert_eq!(
            found.ok(),
            Some(number::<T>(vector, name)),
            "{name} of {vector}"
        );
    }
}

fn stake(vector: &Value, name: &str) -> Stake {
    Stake::new(number(vector, name))
}

fn bps(vector: &Value, name: &str) -> Bps {
    Bps::new(number(vector, name))
}

#[test]
fn shares_and_their_worth() {
    for v in vectors("buckets") {
        let bucket = Bucket {
            stake: stake(&v, "stake"),
            shares: Shares::new(number(&v, "shares")),
        };
        let (amount, held) = (stake(&v, "amount"), Shares::new(number(&v, "held")));
        same(
            bucket.shares_for_floor(amount).map(|n| n.get()),
            &v,
            "minted",
        );
        same(
            bucket.shares_for_ceil(amount).map(|n| n.get()),
            &v,
            "burned",
        );
        same(bucket.stake_for_floor(&held).map(Stake::get), &v, "worth");
        same(bucket.least_alive_ceil().map(Stake::get), &v, "least_alive");
    }
}

#[test]
fn rewards_per_share() {
    for v in vectors("accruals") {
        let shared = accrue(
            number(&v, "reward"),
            &Accumulator::new(number(&v, "remainder")),
            &Shares::new(number(&v, "shares")),
        );
        same(shared.map(|(growth, _)| growth.get()), &v, "growth");
        same(shared.map(|(_, rest)| rest.get()), &v, "rest");
        let held = Shares::new(number(&v, "held"));
        same(
            shared.and_then(|(growth, _)| earned_floor(&held, &growth)),
            &v,
            "earned",
        );
    }
}

#[test]
fn weights() {
    for v in vectors("weights") {
        let well = Tokens::new(number(&v, "well"));
        let total = well.plus_at_most(Tokens::new(number(&v, "lost")));
        let weight = if total.is_zero() {
            Ok(0) // register_weight refuses it as zero
        } else {
            mul_div_floor(number(&v, "active_stake"), well.get(), total.get())
        };
        same(weight, &v, "weight");
    }
}

#[test]
fn schedules() {
    for v in vectors("schedules") {
        let mut data = vec![0u8; Config::LEN];
        let config: &mut Config = state::begin(&mut data, 255).expect("has the length");
        config.scheduled_emission = stake(&v, "scheduled");
        config.committed_emission = stake(&v, "committed");
        config.params.decay_bps = bps(&v, "decay_bps");
        same(
            config.end_epoch(stake(&v, "vault")).map(Stake::get),
            &v,
            "emission",
        );
        same(Ok(config.scheduled_emission.get()), &v, "next");
    }
}

#[test]
fn distributions() {
    for v in vectors("distributions") {
        let total = Shares::new(number(&v, "total_weight"));
        let fees = share_floor(Tokens::new(number(&v, "protocol_fees")), bps(&v, "cap_bps"))
            .expect("a part");
        let most = stake_of_tokens_floor(fees, Rate::new(number(&v, "exposure_rate")))
            .unwrap_or(Stake::MAX);
        let part = weighted_floor(stake(&v, "emission"), stake(&v, "weight"), &total);
        same(part.map(|part| part.min(most).get()), &v, "amount");
    }
}

#[test]
fn slashes() {
    for v in vectors("slashes") {
        let (value, cap) = (stake(&v, "value"), bps(&v, "cap_bps"));
        let room = slash_room_floor(value, stake(&v, "slashed"), cap);
        same(room.map(Stake::get), &v, "room");
        let taken = room.and_then(|room| {
            stake_part_floor(value, bps(&v, "part_bps")).map(|part| part.min(room).get())
        });
        same(taken, &v, "taken");
    }
}
