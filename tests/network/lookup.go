// Looks each name up by Go's own resolver: a line of addresses for each, or of what is
// wrong.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	resolver := &net.Resolver{PreferGo: true}
	failed := false
	for _, name := range os.Args[1:] {
		addresses, err := resolver.LookupHost(context.Background(), name)
		if err != nil {
			fmt.Println(err)
			failed = true
			continue
		}
		fmt.Println(strings.Join(addresses, " "))
	}
	if failed {
		os.Exit(1)
	}
}
