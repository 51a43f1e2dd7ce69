*** Settings ***
Documentation    The firmware of a real board starts in Renode and speaks the protocol.
Resource         training.resource
Resource         uart.resource

*** Test Cases ***
The F446RE Starts And Answers
    ${elf}=    Build Firmware    renode_f446re
    Start Board    renode_f446re    sysbus.usart2    ${elf}
    Board Should Announce Itself    nucleo_f446re
    Board Should Answer Hello    nucleo_f446re

The F767ZI Starts And Answers
    ${elf}=    Build Firmware    renode_f767zi
    Start Board    renode_f767zi    sysbus.usart3    ${elf}
    Board Should Announce Itself    nucleo_f767zi
    Board Should Answer Hello    nucleo_f767zi
