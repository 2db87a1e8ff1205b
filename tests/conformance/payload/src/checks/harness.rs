//! Checks that do to the host what a broken SPMC would: it must notice, blame the right check, and go on with the rest. They say
//! nothing about any SPMC.

use super::prelude::*;
use crate::board;
use bulkhead_sdk::Line;

checks! { "harness":
    "-" hang [Ns] ANY "the end of the run by silence" = |_| loop { core::hint::spin_loop() };
    "-" goes_on_after_a_hang [Ns] ANY "a result";
    "-" reset [Ns] ANY "the end of the run by a reset" = |_| board::reset();
    "-" goes_on_after_a_reset [Ns] ANY "a result" = goes_on_after_a_hang;
    "-" start_again [Ns] ANY "the end of the run by a second start" = |_| board::start_again();
    "-" panic [Ns] ANY "the end of the run by a panic" = |_| panic!("asked to");
    "-" need_a_fresh_machine [Ns] ANY "a second start, then the end of the run" = |_| Err(Problem::Again);
    "-" leave_out [Ns] ANY "a reason" = |_| Err(Problem::Skip(Line::new(format_args!("asked to"))));
    "-" goes_on_after_all [Ns] ANY "a result" = goes_on_after_a_hang;
}

fn goes_on_after_a_hang(_: Instance) -> Outcome {
    pass!("here")
}
