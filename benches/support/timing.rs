//! Times of what benches measure.

use std::time::Instant;

/// Median of the seconds that `of` takes, of so many rounds.
pub fn median(rounds: usize, mut of: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            of();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}
