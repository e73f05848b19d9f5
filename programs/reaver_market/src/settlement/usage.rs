//! A voucher of both sides, checked against the attempt it speaks of.

use pinocchio::{AccountView, Address};

use crate::{
    checks::require,
    errors::MarketError,
    math,
    messages::{voucher_state, Approvals, Voucher, VoucherArgs, MESSAGE_LEN},
    quantities::{Bps, Key, Millis, Time, Tokens},
    reasons,
    state::{Attempt, Config},
};

/// Until when a voucher may be dated.
#[derive(Clone, Copy)]
pub enum Latest {
    /// Of a running attempt: now, and the clocks' difference.
    Now(Time),
    /// Of a contested attempt: when it was ended.
    Released(Time),
}

/// What a voucher is checked against.
pub struct Usage<'a> {
    /// The program that runs.
    pub program_id: &'a Address,
    /// The deployment.
    pub config: &'a Config,
    /// The escrow's address.
    pub escrow: &'a Key,
    /// The escrow's wallet: may countersign instead of the meter.
    pub wallet: &'a Key,
    /// The node's key.
    pub node_key: &'a Key,
    /// Who signed the transaction for this instruction.
    pub submitter: &'a Key,
    /// The instructions sysvar.
    pub instructions: &'a AccountView,
    /// Until when the voucher may be dated.
    pub latest: Latest,
    /// Where billing stops; zero: nowhere.
    pub stop_at: Time,
    /// The most that may be billed, but for a contested attempt, which its reserve bounds.
    pub time_left: Option<Millis>,
}

/// What an accepted voucher means.
pub struct Accepted {
    /// The attempt's amount before.
    pub before: Tokens,
    /// The attempt's amount after.
    pub after: Tokens,
    /// What is to be paid now.
    pub paying: Tokens,
    /// The attempt's protocol fee.
    pub protocol_bps: Bps,
    /// All the attempt's fees.
    pub fee_bps: Bps,
}

impl Accepted {
    /// Nothing.
    pub const NONE: Self = Self {
        before: Tokens::ZERO,
        after: Tokens::ZERO,
        paying: Tokens::ZERO,
        protocol_bps: Bps::ZERO,
        fee_bps: Bps::ZERO,
    };
}

impl Usage<'_> {
    /// Checks the voucher, its approvals, and what it asks for; writes it into the attempt. Says whether the
    /// meter countersigned, and in `accepted` what it means.
    ///
    /// # Errors
    /// Each rule has its own.
    #[inline(never)]
    pub fn accept(
        &self,
        attempt: &mut Attempt,
        args: &VoucherArgs,
        accepted: &mut Accepted,
    ) -> Result<bool, MarketError> {
        self.check_form(attempt, args)?;
        self.check_times(attempt, args)?;
        let amount = math::amount_due_floor(attempt.price, args.billed)?;
        let paying = amount.minus(attempt.amount)?;
        let contested = matches!(self.latest, Latest::Released(_));
        require(
            paying <= attempt.exposure,
            if contested {
                MarketError::AmountBeyondReserve
            } else {
                MarketError::AmountBeyondExposure
            },
        )?;
        let by_meter = self.check_approvals(attempt, args, amount)?;
        *accepted = Accepted {
            before: attempt.amount,
            after: amount,
            paying,
            protocol_bps: attempt.protocol_bps,
            fee_bps: attempt.fee_bps,
        };
        attempt.sequence = args.sequence;
        attempt.started_at = args.started_at;
        attempt.last_at = args.at;
        attempt.billed = args.billed;
        attempt.amount = amount;
        attempt.exposure.shrink(paying)?;
        if by_meter {
            attempt.metered_at = args.at;
            attempt.metered_amount = amount;
        }
        Ok(by_meter)
    }

    fn check_form(&self, attempt: &Attempt, args: &VoucherArgs) -> Result<(), MarketError> {
        require(!args.sequence.is_zero(), MarketError::VoucherMissing)?;
        require(
            (voucher_state::RUNNING..=voucher_state::FINAL).contains(&args.state),
            MarketError::VoucherStateUnknown,
        )?;
        require(args.reason <= reasons::LAST, MarketError::ReasonNotAllowed)?;
        require(
            args.sequence > attempt.sequence,
            MarketError::SequenceNotHigher,
        )
    }

    fn check_times(&self, attempt: &Attempt, args: &VoucherArgs) -> Result<(), MarketError> {
        let first = attempt.sequence.is_zero();
        let skew = self.config.params.skew;
        if first {
            require(
                args.started_at >= attempt.assigned_at.before(skew)?,
                MarketError::StartTooEarly,
            )?;
        } else {
            require(
                args.started_at == attempt.started_at,
                MarketError::StartChanged,
            )?;
            require(args.at >= attempt.last_at, MarketError::VoucherTimeFell)?;
        }
        require(args.started_at <= args.at, MarketError::StartAfterVoucher)?;
        match self.latest {
            Latest::Now(now) => {
                require(args.at <= now.after(skew)?, MarketError::VoucherFromFuture)?;
            }
            Latest::Released(at) => require(args.at <= at, MarketError::VoucherAfterRelease)?,
        }
        require(args.billed >= attempt.billed, MarketError::BilledFell)?;
        let until = if self.stop_at.is_zero() {
            args.at
        } else {
            args.at.min(self.stop_at)
        };
        require(
            args.billed <= until.since(args.started_at),
            MarketError::BilledBeyondClock,
        )?;
        if !first {
            require(
                args.billed.minus(attempt.billed)? <= args.at.since(attempt.last_at),
                MarketError::BilledTooFast,
            )?;
        }
        if let Some(left) = self.time_left {
            require(args.billed <= left, MarketError::BilledBeyondMaximum)?;
        }
        Ok(())
    }

    fn check_approvals(
        &self,
        attempt: &Attempt,
        args: &VoucherArgs,
        amount: Tokens,
    ) -> Result<bool, MarketError> {
        let mut message = [0; MESSAGE_LEN];
        self.check_node(attempt, args, amount, &mut message)?;
        self.approvals(&message)
            .by_one_of(args.counter_approval, &attempt.meter, self.wallet)
    }

    /// Writes down what is signed, and checks that the node has approved it.
    ///
    /// # Errors
    /// As `Approvals::by`.
    #[inline(never)]
    pub fn check_node(
        &self,
        attempt: &Attempt,
        args: &VoucherArgs,
        amount: Tokens,
        message: &mut [u8; MESSAGE_LEN],
    ) -> Result<(), MarketError> {
        *message = Voucher {
            program_id: Key(*self.program_id.as_array()),
            genesis_hash: self.config.genesis_hash,
            escrow: *self.escrow,
            attempt: attempt.number,
            wallet: *self.wallet,
            node: attempt.node,
            sequence: args.sequence,
            started_at: args.started_at,
            at: args.at,
            billed: args.billed,
            amount,
            state: args.state,
            reason: args.reason,
            digest: args.digest,
        }
        .message();
        self.approvals(message)
            .by(args.node_approval, self.node_key)
    }

    #[inline(always)]
    fn approvals<'m>(&'m self, message: &'m [u8; MESSAGE_LEN]) -> Approvals<'m> {
        Approvals {
            submitter: *self.submitter,
            instructions: self.instructions,
            message,
        }
    }
}
