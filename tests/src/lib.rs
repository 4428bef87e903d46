//! What the tests share: the file tests' harness and what they can run, disassembly among it; the
//! samples of the op rows with what is expected of them; random graphs, and how far results behind
//! several nodes may be off; native code in this process, and calls of it; models and recorded cases; lists of what
//! passes.

pub mod agree;
pub mod bounds;
pub mod calls;
pub mod cases;
pub mod damage;
pub mod disassembly;
pub mod dynamic;
pub mod files;
pub mod list;
pub mod memory;
pub mod native;
pub mod random;
pub mod reduce;
pub mod runners;
pub mod samples;
