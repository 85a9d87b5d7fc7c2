//! The monitor from outside: what goes in by position and what comes out per window.

mod decision;
mod golden;
mod holes;
mod model;
mod precedence;
mod real;
mod restart;
mod sensor;
mod story;
mod support;
mod tacho;
mod thermal;
mod units;
mod window;
