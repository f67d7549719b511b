//! Tables that crates have twice since they must not see each other: they say the same.

use kaos_client::fault;
use kaos_kernel::prelude::*;

#[test]
fn the_client_knows_faults_by_the_servers_numbers_and_words() {
    for known in fault::ALL {
        let row = FaultKind::ALL.iter().find(|kind| u32::from(kind.code()) == known.code);
        assert_eq!(row.map(|kind| kind.word()), Some(known.word), "{}", known.code);
    }
}
