//! What can be set for the node itself.

crate::settings! {
    /// The node.
    pub struct NodeSettings in "", checked by check_name {
        /// Development: clients are told the errors of scripts with their traceback, and keys that everyone knows are
        /// accepted.
        dev: bool = false;
        /// The node's name, 1 to 64 bytes; shown to clients and scripts.
        node: String = "kaos1".to_owned();
    }
}

fn check_name(node: &NodeSettings) -> Vec<String> {
    let fits = (1..=64).contains(&node.node.len());
    if fits { Vec::new() } else { vec!["`node` is a name of 1 to 64 bytes".to_owned()] }
}
