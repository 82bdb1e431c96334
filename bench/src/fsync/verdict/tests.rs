//! The verdict on recorded profiles, one file for each kind of drive. A profile says where its figures are from, and what must be found.
