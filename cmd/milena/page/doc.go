// Package page serves the status page of a running milena: the first screen, an hour of history, a stream of events, and tables by parts.
//
// It knows the status of flows, what package summary makes of it, and nothing of the process: package main gives it functions and decides who may ask.
//
//	page.go       Page, its options, and the pass that Run makes each second
//	view.go       the first screen as JSON; newview.go, verdict.go and attention.go make it of a status
//	commands.go   the commands that mend something, as a user types them
//	stream.go     the event stream: chunks, readers, and one reader's response
//	meter.go      rates and latencies of the last seconds; history.go the ring of an hour
//	rows.go       partitions, topics and groups; query.go searches, sorts and cuts any list
//	assets.go     the files of the page, which are built in
//	assets/       the page: app.js puts it together, live.js hears the stream, verdict.js answers the four questions; libraries are in vendor
//
// # A second of the page
//
// Run makes a pass each second, and when a page opens. If a page is open or a column of the history is due, the pass asks once for the statuses of all
// flows. Of these it makes the view, which is bounded, whatever the number of partitions; marshals it once; and, if it is not what it was, compresses it once
// and hands the same bytes to every open page. A pass while nobody looks and no column is due computes nothing.
//
// The compressed form of an event is a few blocks of a deflate stream that refer to nothing before them and end at a byte boundary. Such blocks may follow
// each other in any stream, so a page that opens gets a gzip header and then the blocks that everybody gets.
//
// The pass never waits for a page. Each has room for a few events; one that does not take them is dropped: it reconnects and gets the newest view, as
// each event is a whole one. Writes have a deadline, so that a connection to nobody is given up. The number of streams is bounded by [MaxStreams], and the
// server sets as many connections aside.
//
// Tables are not in the view. They are made for a request, of statuses that are at most a second old and that all requests share.
//
// # What is not known
//
// Unknown is null, never 0. A rate needs two readings, a lag a source that answers. The history is null where the process did not run or could not look, and
// over such a gap there is no rate either. The verdict says yes only if it is known of all partitions of the flow; an instance that has a part of the shards
// says so.
//
// # The browser's side
//
// The page is modules that a browser loads as they are. A view replaces the one before; what the reader chose is in the URL and nowhere else. Text is
// only ever text of an element: the policy of assets.go forbids what would make markup or code of it, and a test looks for such calls.
//
// Rows of tables have one height, so that those out of sight need no element: rows.js fetches the part that is in sight, and forgets what was.
//
// The tests in browser_test.go and its neighbours drive a Chromium through stories, which are statuses of flows, against the real handlers.
//
// # Who owns what
//
// The goroutine of Run owns the meters and the newest event. Readers, history and the latest statuses have a lock of their own each, and no lock is
// held while another is taken; asking for statuses happens under that of the latest ones, so that they are asked for once.
package page
