// Names as parts of sentences. One that is read from right to left would pull the words and figures beside it along.

const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/** `text` between marks that keep its direction to itself, where it needs them: what has no markup can use it too. */
export const isolated = (text) => (RIGHT_TO_LEFT.test(text) ? `\u2068${text}\u2069` : text);

export const listed = (names) => names.map(isolated).join(", ");

/** "1 answer", "2 answers": a count with its noun. */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
