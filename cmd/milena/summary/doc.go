// Package summary says what a status comes to: states, causes and sentences. The commands print them and the status page shows them, so that both say the same.
//
// Everything here is a pure function of what it is given. [StateOf] and [Attention] are about one partition, [Entries] sums up what needs attention,
// [ControlTexts] is about what people decided, and [LossText] about what a failover would lose.
package summary
