//! The KaosNet client: one connection over UDP or WebSocket, resumed by itself.
