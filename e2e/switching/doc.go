// Package switching moves an application of real clients from one cluster to the other and back with milena switchover, and judges what the application saw.
//
// The application knows nothing of milena. Its producers write numbered records to the topic orders of the cluster that it uses. A record that was refused
// because the producers are stopped is written again at the other cluster. Its consumer groups read orders and its copy from the other cluster, and note each
// record that they process. After a switchover the application changes its address and the name of the copy, nothing else. At the end each group must have
// processed each record exactly once, wherever it was written and however often the application moved.
//
//	world.go     clusters with users and ACLs, and a milena with a flow in each direction
//	app.go       the application: what it has written, and how it moves
//	producer.go  producers, one of them with transactions
//	group.go     consumer groups in all states
//	command.go   the command milena switchover, and how it is killed
//	inside.go    the command killed inside a step, which its control topic tells
//	times.go     how long its steps take
//
// The packages e2e and e2e/long run it.
package switching
