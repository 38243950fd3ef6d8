//! Small graphs through the whole backend, against naive values: at every instruction set that the machine has, with one
//! worker and two, with memory shared and not.

mod attention;
mod chains;
mod columns;
mod compressed;
mod elementwise;
mod harness;
mod images;
mod indexing;
mod integer_conv;
mod mixed;
mod normalizations;
mod precision;
mod products;
mod random;
mod sampling;
mod views;
