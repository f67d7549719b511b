//! What is live: joining and leaving rooms, the match loop, relaying.
