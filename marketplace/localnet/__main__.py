from marketplace.localnet.cli import main

main()
