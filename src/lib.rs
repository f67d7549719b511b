//! KaosNet.
