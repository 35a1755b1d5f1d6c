// Package checks is how a suite says what it found; see ../../../python/checks.py, which says the same.
package checks

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Patience is how long something may take before it hangs.
const Patience = 15 * time.Second

var (
	// Address is where the client connects to, HOST:PORT.
	Address = environment("OUTRIGGER_ADDRESS", "127.0.0.1:6379")
	// Servers is how many servers are behind it.
	Servers, _ = strconv.Atoi(environment("OUTRIGGER_SERVERS", "1"))
	answers    = bufio.NewScanner(os.Stdin)
)

func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// Ask asks whoever runs the suite.
func Ask(question string) string {
	fmt.Println("ask", question)
	answers.Scan()
	return answers.Text()
}

// Must ends the check if there is an error.
func Must(err error) {
	if err != nil {
		panic(failure(fmt.Sprintf("%v%s", err, line())))
	}
}

// That ends the check if the condition does not hold.
func That(holds bool, format string, arguments ...interface{}) {
	if !holds {
		panic(failure(fmt.Sprintf(format, arguments...) + line()))
	}
}

// Equal ends the check if the two are not the same.
func Equal(got, expected interface{}) {
	if !reflect.DeepEqual(got, expected) {
		panic(failure(fmt.Sprintf("got %#v, expected %#v%s", got, expected, line())))
	}
}

// Fails ends the check unless the error says that.
func Fails(err error, text string) {
	if err == nil || !strings.Contains(err.Error(), text) {
		panic(failure(fmt.Sprintf("%v does not say %q%s", err, text, line())))
	}
}

// Eventually looks until it holds.
func Eventually(what string, look func() bool) {
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if look() {
			return
		}
	}
	panic(failure("waited in vain for " + what + line()))
}

// Spread ends the check if some server has no key.
func Spread() {
	sizes := strings.Fields(Ask("sizes"))
	That(len(sizes) == Servers, "sizes: %v", sizes)
	for _, size := range sizes {
		That(size != "0", "keys of each server: %v", sizes)
	}
}

// Lost ends the check if one server's end cost all of 60 keys, or none.
func Lost(lost int) {
	That(lost > 0 && (lost == 60) == (Servers == 1), "%d lost", lost)
}

// A Check has the name that is shown.
type Check struct {
	Name string
	Run  func()
}

type failure string

func line() string {
	for depth := 2; depth < 12; depth++ {
		if _, file, number, ok := runtime.Caller(depth); ok && strings.HasSuffix(file, "main.go") {
			return fmt.Sprintf(" (line %d)", number)
		}
	}
	return ""
}

// Run calls each check.
func Run(client, version string, all []Check) {
	fmt.Println("client", client, version)
	failures := 0
	for _, check := range all {
		if why := failed(check); why != "" {
			failures++
			fmt.Printf("failed %s: %s\n", check.Name, strings.ReplaceAll(why, "\n", " "))
		} else {
			fmt.Println("ok", check.Name)
		}
	}
	if failures > 0 {
		os.Exit(1)
	}
}

func failed(check Check) (why string) {
	defer func() {
		if caught := recover(); caught != nil {
			why = fmt.Sprint(caught)
		}
	}()
	check.Run()
	return ""
}
