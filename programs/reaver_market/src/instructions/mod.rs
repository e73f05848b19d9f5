//! One file per instruction, by actor. Each opens with its specification.

use pinocchio::{error::ProgramError, ProgramResult};

use crate::{errors::MarketError, Ctx};

macro_rules! registry {
    ($($actor:ident { $($(#[doc = $doc:literal])* $name:ident),+ $(,)? })+) => {
        $(
            #[doc = concat!("Instructions of: ", stringify!($actor), ".")]
            pub mod $actor {
                $($(#[doc = $doc])* pub mod $name;)+
            }
        )+

        /// Hands over to the instruction that the first eight bytes name.
        ///
        /// # Errors
        /// `UnknownInstruction`, or whatever the instruction refuses.
        #[inline(never)]
        pub fn dispatch(mut ctx: Ctx<'_>) -> ProgramResult {
            let Some((head, args)) = ctx.data.split_first_chunk::<8>() else {
                return Err(MarketError::UnknownInstruction.into());
            };
            ctx.data = args;
            let head = u64::from_le_bytes(*head);
            let handler: fn(Ctx<'_>) -> Result<(), MarketError> = match head {
                $($($actor::$name::HEAD => $actor::$name::process,)+)+
                _ => return Err(MarketError::UnknownInstruction.into()),
            };
            handler(ctx).map_err(ProgramError::from)
        }

        /// All instructions, for the IDL.
        #[cfg(not(target_arch = "bpf"))]
        pub const ALL: &[crate::idl::Instruction] = &[$($($actor::$name::IDL),+),+];
    };
}

registry! {
    settlement { settle, assign, open_escrow, release_node, quit, contest, close_contest, reap, cancel_escrow }
    renter { open_vault, deposit, withdraw, claim_compensation, grant_allowance, revoke_allowance }
    operator { register_node, bond, update_node, withdraw_owed }
    market { register_market }
    admin { initialize, set_class }
}
