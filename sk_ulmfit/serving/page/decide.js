// Probabilities to decisions, as sk_ulmfit.thresholds.decide does it.

const SMALLEST = 1e-6;

function logOdds(p) {
  const inside = Math.min(Math.max(p, SMALLEST), 1 - SMALLEST);
  return Math.log(inside / (1 - inside));
}

/** Return whether each label is predicted; `rule` has `top_k` and `at_least_one`. */
export function decide(probabilities, thresholds, rule) {
  const n = probabilities.length;
  if (rule.top_k != null) {
    const order = Array.from({ length: n }, (_, k) => k).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    const decided = new Array(n).fill(false);
    for (const k of order.slice(0, rule.top_k)) decided[k] = true;
    return decided;
  }
  const decided = Array.from(probabilities, (p, k) => p >= thresholds[k]);
  if (rule.at_least_one && !decided.includes(true)) decided[nearest(probabilities, thresholds)] = true;
  return decided;
}

function nearest(probabilities, thresholds) {
  let best = 0;
  let bestDistance = -Infinity;
  for (let k = 0; k < probabilities.length; k++) {
    const distance = logOdds(probabilities[k]) - logOdds(thresholds[k]);
    if (distance > bestDistance || (distance === bestDistance && probabilities[k] > probabilities[best])) {
      best = k;
      bestDistance = distance;
    }
  }
  return best;
}
