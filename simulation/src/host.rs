//! One machine: agent, guard, PostgreSQL and its disk.
