// Package long has tests that run for many minutes and are not part of the gate:
//
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 4h                              run all
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 4h -run TestThousandFaults      run one
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 4h -run TestManyPartitions      run one that needs no Java: two minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestBrokersOfManyAges   all pairs of Kafka versions: seven minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestLimitsOfServices    the limits of managed services on 3.9 and 4.4: four minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestPartitionsPer       more partitions than a controller creates at once: several minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestHeartbeatsOn        a source before 2.4: half a minute
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestVerifyTenGigabytes  milena verify of 10 GB, with planted faults: four minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestRepairsByTheStatus  a topic for each anomaly, repaired by what the status prints: two minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestStretched           stretch clusters whose line is cut, as source and target: ten minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestControllersLost     both clusters lose their controllers: three minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestFullDisk            the disk of a broker is full; needs root: three minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestIndicesLost         brokers lose indices and producer snapshots: three minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestTenSwitchovers      an application moves there and back ten times
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestSwitchover          switchovers that are killed, interrupted, or out of time: four minutes
//	MILENA_LONG=1 go test ./e2e/long -v -timeout 1h -run TestDrillsOn            drills every 20 s beside load: twenty minutes
//	MILENA_LONG=1 MILENA_E2E_SEED=17 go test ./e2e/long -v -timeout 4h -run ...  repeat the faults of a run; its log has the seed
//
// Without MILENA_LONG they are skipped. They need what the package e2e needs, and understand the same environment variables.
// MILENA_FAULTS sets the number of faults of TestThousandFaults, with 30 there is at least one of each kind, and MILENA_RTT the round-trip time to both
// clusters in milliseconds. MILENA_MINUTES is how long each of the three parts of TestInstances and of the two of TestDrillsOnASchedule lasts, and
// MILENA_FORGETFUL=1 lets the target of the former forget producers after 20 s. MILENA_SEGMENTS and MILENA_TRANSACTIONS set the size of the histories, MILENA_PARTITIONS the number of partitions of
// TestManyPartitions and of TestTenSwitchovers, MILENA_GROUPS and MILENA_ROUNDS the groups and rounds of the latter, MILENA_GIGABYTES the size of what
// TestVerifyTenGigabytes verifies, 5 or more.
package long
