//! Module map of the lab, from the kernel upwards.
//!
//! | layer | modules |
//! |---|---|
//! | the kernel | [`stop`], [`process`], [`ports`], [`network`], [`disk`], [`directory`] |
//! | the product, from outside | [`daemon`], [`binaries`], [`answers`] |
//! | what its clients see | [`names`], [`probe`], [`journal`] |
//! | the whole | [`layout`], [`cluster`] |
//! | what people run | [`demo`] ([`watch`], [`rejoin`]), [`bench`] ([`cases`]), [`idle`], [`up`] |
//! | and in a browser | [`page`] ([`browser`]) |
//! | and in quiet hours | [`drills`] |
//! | and on the worst day | [`accept_loss`] |
//! | what they read | [`screen`], [`timeline`], [`statistics`], [`phases`] |

pub mod accept_loss;
pub mod answers;
pub mod bench;
pub mod binaries;
pub mod browser;
pub mod cases;
pub mod cluster;
pub mod daemon;
pub mod demo;
pub mod directory;
pub mod disk;
pub mod drills;
pub mod idle;
pub mod journal;
pub mod layout;
pub mod names;
pub mod network;
pub mod page;
pub mod phases;
pub mod ports;
pub mod probe;
pub mod process;
pub mod rejoin;
pub mod screen;
pub mod statistics;
pub mod stop;
pub mod timeline;
pub mod up;
pub mod watch;
