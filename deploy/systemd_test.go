package deploy_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// unitFile writes a unit with another program than milena, which need not be installed here, and returns its path.
func unitFile(t *testing.T, unit, text, program string) string {
	t.Helper()
	if strings.Count(text, "\nExecStart=milena ") != 1 {
		t.Fatalf("%s does not start milena", unit)
	}
	file := filepath.Join(t.TempDir(), strings.ReplaceAll(unit, "@.", "@eu."))
	if err := os.WriteFile(file, []byte(strings.Replace(text, "ExecStart=milena ", "ExecStart="+program+" ", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSystemdReadsTheUnits(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	for _, unit := range units {
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unitFile(t, unit, read(t, unit), "/bin/true")).CombinedOutput()
		// What systemd does not know is only a warning. Other units of the machine may have warnings too.
		if err != nil || strings.Contains(string(out), "milena") {
			t.Errorf("systemd-analyze verify %s: %v\n%s", unit, err, out)
		}
	}
}

// The exposure is from 0 to 100. What is left are the network, which milena is about, and the file system of the host, which it can only read.
func TestUnitsAreHardened(t *testing.T) {
	const exposure = 12
	analyze := tool(t, "systemd-analyze")
	for _, unit := range units {
		out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", fmt.Sprintf("--threshold=%d", exposure), unitFile(t, unit, read(t, unit), "/bin/true")).CombinedOutput()
		if err != nil {
			t.Errorf("the exposure of %s is above %d: %v\n%s", unit, exposure, err, out)
		}
	}
}

// setting returns the value of a setting that a unit has once.
func setting(t *testing.T, unit, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(read(t, unit), -1)
	if len(found) != 1 {
		t.Fatalf("%s has %s %d times", unit, name, len(found))
	}
	return found[0][1]
}

// A process that the watchdog ends, or that panics, is started again. Without GOTRACEBACK=crash a Go program ends both with exit code 2, which the units take
// for a wrong config.
func TestAnAbortedProcessIsStartedAgain(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "milena")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../cmd/milena").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, unit := range units {
		milena := exec.CommandContext(t.Context(), binary, "demo", "--for", "5m", "--listen", "")
		milena.Env = append(os.Environ(), setting(t, unit, "Environment"))
		out, err := milena.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := milena.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // it runs
			t.Fatal(err)
		}
		if err := milena.Process.Signal(syscall.SIGABRT); err != nil { // as the watchdog does
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := milena.Wait(); !errors.As(err, &exit) {
			t.Fatalf("it ends with %v", err)
		}
		status, ok := exit.Sys().(syscall.WaitStatus)
		if never := strings.Fields(setting(t, unit, "RestartPreventExitStatus")); ok && status.Exited() && slices.Contains(never, strconv.Itoa(status.ExitStatus())) || !ok {
			t.Errorf("an aborted process ends with %v, after which %s does not start it again", exit, unit)
		}
	}
}
